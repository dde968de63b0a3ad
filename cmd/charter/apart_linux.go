package main

import (
	"os/exec"
	"syscall"
)

// apart makes cmd run in a process group of its own, so that a Ctrl-C in the terminal does not
// reach it, and has it told to stop if this process is killed.
func apart(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
