package client

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"charter/seal"
)

// vault is the wallet file. Its one line of text says how many bytes of head follow it; the
// body is all the rest:
//
//	charter wallet 1 sealed 389⏎   head: an age file under the passphrase, with the body's key in it
//	charter wallet 1 open 74⏎      head: that key itself, for wallets without a passphrase
//	<head><body>                   body: an age file under the key: the wallet and its notes
//
// The passphrase costs its second of scrypt once, when the file is opened; writing, which
// happens before each payment is sent, makes a new body only. A write makes a second file,
// syncs it, and puts it in the place of the first: a crash leaves the one or the other.
type vault struct {
	path string
	head []byte // the line and the head, as they are in the file
	key  seal.Key
	lock *os.File // nil: open for reading only
	seen os.FileInfo
}

const vaultMagic = "charter wallet 1 "

// lockVault keeps other processes from opening the wallet, by a lock on a file beside it that goes
// with the process. It tries for as long as wait says.
func lockVault(path string, wait time.Duration) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refuse(Disk, err, "there is no directory %s: make it first", filepath.Dir(path))
	}
	if err != nil {
		return nil, refuse(Disk, err, "cannot lock the wallet %s: %v", path, err)
	}
	for until := time.Now().Add(wait); ; time.Sleep(20 * time.Millisecond) {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(until) {
			f.Close()
			return nil, refuse(InUse, err, "the wallet %s is in use by another process: wait until that is done, or stop it", path)
		}
	}
}

// newVault makes the key of a new wallet file, which is not written yet.
func newVault(c *Config) (*vault, error) {
	if _, err := os.Stat(c.Path); err == nil {
		return nil, refuse(Exists, nil, "there is a wallet at %s already: choose another file, or move that one away", c.Path)
	}
	if c.Passphrase == "" && !c.Unsealed {
		return nil, refuse(NoPassphrase, nil, "the passphrase is empty: give one, or say that the file is to be kept without")
	}
	lock, err := lockVault(c.Path, c.LockWait)
	if err != nil {
		return nil, err
	}
	v := &vault{path: c.Path, lock: lock}
	if v.key, err = seal.NewKey(); err == nil {
		word, head := "open", []byte(v.key.Secret()+"\n")
		if c.Passphrase != "" {
			word = "sealed"
			head, err = seal.Encrypt(head, c.Passphrase, c.work())
		}
		v.head = append(fmt.Appendf(nil, "%s%s %d\n", vaultMagic, word, len(head)), head...)
	}
	if err != nil {
		v.close()
		return nil, refuse(Disk, err, "cannot make the wallet's key: %v", err)
	}
	return v, nil
}

// openVault reads a wallet file, and gives the bytes of its body opened.
func openVault(c *Config) (*vault, []byte, error) {
	v := &vault{path: c.Path}
	if _, err := os.Stat(c.Path); err != nil {
		return nil, nil, readError(c.Path, err)
	}
	if !c.ReadOnly {
		var err error
		if v.lock, err = lockVault(c.Path, c.LockWait); err != nil {
			return nil, nil, err
		}
	}
	plain, err := v.open(c.Passphrase)
	if err != nil {
		v.close()
		return nil, nil, err
	}
	return v, plain, nil
}

// open finds the key, and with it the body.
func (v *vault) open(passphrase string) ([]byte, error) {
	file, err := v.read()
	if err != nil {
		return nil, err
	}
	word, head, body, err := splitVault(file)
	if err != nil {
		return nil, v.damaged(err)
	}
	v.head = bytes.Clone(file[:len(file)-len(body)])
	if word == "sealed" {
		if passphrase == "" {
			return nil, refuse(NoPassphrase, nil, "the wallet %s is sealed under a passphrase: give it", v.path)
		}
		head, err = seal.Decrypt(head, passphrase)
		if seal.IsKind(err, seal.WrongPassphrase) {
			return nil, refuse(WrongPassphrase, err, "wrong passphrase for the wallet %s: try again", v.path)
		}
		if err != nil {
			return nil, v.damaged(err)
		}
	}
	if v.key, err = seal.ParseKey(strings.TrimSpace(string(head))); err != nil {
		return nil, v.damaged(err)
	}
	plain, err := v.key.Decrypt(body)
	if err != nil {
		return nil, v.damaged(err)
	}
	return plain, nil
}

// splitVault takes a wallet file apart.
func splitVault(file []byte) (word string, head, body []byte, err error) {
	line, _, ok := bytes.Cut(file[:min(len(file), 64)], []byte("\n"))
	said, isOurs := strings.CutPrefix(string(line), vaultMagic)
	word, digits, two := strings.Cut(said, " ")
	n, err := strconv.Atoi(digits)
	if !ok || !isOurs || !two || err != nil || word != "sealed" && word != "open" {
		return "", nil, nil, errors.New("it does not begin as a wallet file does")
	}
	rest := file[len(line)+1:]
	if n < 0 || n > len(rest) {
		return "", nil, nil, errors.New("it is cut off")
	}
	return word, rest[:n], rest[n:], nil
}

func (v *vault) damaged(err error) error {
	return refuse(Damaged, err, "the wallet file %s is damaged (%v): take it from a backup, or restore the wallet from its words", v.path, err)
}

func readError(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return refuse(Missing, err, "there is no wallet at %s: make one with `charter wallet create`, or name another file", path)
	}
	return refuse(Disk, err, "cannot read the wallet: %v", err)
}

func (v *vault) read() ([]byte, error) {
	f, err := os.Open(v.path)
	if err != nil {
		return nil, readError(v.path, err)
	}
	defer f.Close()
	var file bytes.Buffer
	if v.seen, err = f.Stat(); err == nil {
		_, err = file.ReadFrom(f)
	}
	if err != nil {
		return nil, readError(v.path, err)
	}
	return file.Bytes(), nil
}

// changed reports whether another process has written the file since it was read.
func (v *vault) changed() (bool, error) {
	now, err := os.Stat(v.path)
	if err != nil {
		return false, readError(v.path, err)
	}
	return !os.SameFile(now, v.seen) || !now.ModTime().Equal(v.seen.ModTime()), nil
}

// reread is the body as it is now.
func (v *vault) reread() ([]byte, error) {
	file, err := v.read()
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(file, v.head) {
		return nil, refuse(Damaged, nil, "the wallet file %s was replaced by another one: open it again", v.path)
	}
	plain, err := v.key.Decrypt(file[len(v.head):])
	if err != nil {
		return nil, v.damaged(err)
	}
	return plain, nil
}

// write puts a body into the file, durable when it returns.
func (v *vault) write(plain []byte) error {
	body, err := v.key.Encrypt(plain)
	if err == nil {
		err = WriteFile(v.path, append(bytes.Clone(v.head), body...), 0o600)
	}
	if err != nil {
		return refuse(Disk, err, "cannot write the wallet %s: %v; nothing was sent", v.path, err)
	}
	return nil
}

func (v *vault) close() {
	if v.lock != nil {
		v.lock.Close() // and so unlocks; the lock's file stays, since another may wait for it
	}
}

// WriteFile puts data at a path, in the place of what may be there, so that a crash leaves the
// old or the new, and the new is durable when it returns.
func WriteFile(path string, data []byte, mode os.FileMode) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Sealed reports whether the wallet file at a path is under a passphrase. Errors: Missing,
// Damaged, Disk.
func Sealed(path string) (bool, error) {
	v := vault{path: path}
	file, err := v.read()
	if err != nil {
		return false, err
	}
	word, _, _, err := splitVault(file)
	if err != nil {
		return false, v.damaged(err)
	}
	return word == "sealed", nil
}
