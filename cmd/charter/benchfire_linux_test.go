package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// Four peers in namespaces of their own are killed, paused and cut off for some seconds. The
// limit is for a machine that does other things, too: `charter bench fire` asks for more.
func TestFire(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	file, err := builtProgram()
	if err != nil {
		t.Fatal(err)
	}
	program = file // for TestMain to remove
	cmd := exec.Command(file, "bench", "fire", "--peers", "4", "--duration", "20s", "--kill-every", "5s", "--rate", "20", "--limit", "45s", "--seed", "3", "--dir", t.TempDir(), "--json")
	if os.Getuid() != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
	}
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
	case !errors.As(err, &exit):
		t.Skipf("skipped: this user may not make namespaces: %v", err)
	case exit.ExitCode() == exitSkipped:
		t.Skipf("skipped: %s", stderr.Bytes())
	default:
		t.Fatalf("%v\n%s%s", err, out.Bytes(), stderr.Bytes())
	}
	lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
	var s fireSummary
	if err := json.Unmarshal(lines[len(lines)-1], &s); err != nil {
		t.Fatalf("%v\n%s", err, out.Bytes())
	}
	if s.Kills != 2 || s.Kills+s.Pauses+s.Cuts+s.Deaf < 3 || s.Acknowledged < 50 || s.Audit.Payments != s.Acknowledged || s.Audit.Height < 10 || s.Compared == 0 ||
		len(s.Heals) != 4 || s.Packets.Lost == 0 || s.Memory.Max < 10 || len(s.Faults) > 0 {
		t.Errorf("%s", out.Bytes())
	}
	t.Logf("%s", out.Bytes())
}
