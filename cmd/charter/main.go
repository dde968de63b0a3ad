// Command charter is all of Charter in one program: a peer, a wallet, and the tools around them.
//
// Here flags become configuration structs, and results become lines for people or for
// programs; the work is done by packages peer and client. Each command group is a file, which
// enters itself into the list in root.go.
package main

import "os"

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
