package peer

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"charter/sig"
	"charter/types"
)

// Init makes a directory for a new peer: a new key, and a configuration file with what is set
// in settings, by key. It never overwrites a key. The peer needs a genesis file yet.
func Init(dir string, settings map[string]string) (types.Key, error) {
	settings["dir"] = dir
	c, err := Load(settings, nil)
	if err != nil {
		return types.Key{}, err
	}
	delete(settings, "dir")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return types.Key{}, fmt.Errorf("make the peer's directory: %w", err)
	}
	key, err := newKey(c.path(c.Key))
	if err != nil {
		return types.Key{}, err
	}
	if err := writeNew(filepath.Join(dir, FileName), configFile(settings), 0o644); err != nil && !errors.Is(err, fs.ErrExist) {
		return types.Key{}, fmt.Errorf("write the configuration: %w", err)
	}
	return key, nil
}

const keyHeader = "# The private key of a Charter peer: whoever has it can sign as the peer. Keep one copy in use only:\n" +
	"# a peer that signs twice at a height loses its standing.\n"

// newKey makes a key file, and gives the public key.
func newKey(path string) (types.Key, error) {
	var secret [32]byte
	key, err := sig.PrivateKey{}, error(nil)
	for ok := false; !ok; ok = err == nil { // one in 2^128 is out of range
		rand.Read(secret[:])
		key, err = sig.ParsePrivateKey(secret)
	}
	err = writeNew(path, fmt.Appendf(nil, "%s%x\n", keyHeader, secret), 0o600)
	if errors.Is(err, fs.ErrExist) {
		return types.Key{}, fmt.Errorf("%s exists: it may be in use, so it is not overwritten; give another directory", path)
	}
	if err != nil {
		return types.Key{}, fmt.Errorf("write the peer's key: %w", err)
	}
	return key.Public(), nil
}

// writeNew writes a file that must not be there yet, and sees to it that it stays.
func writeNew(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// ReadKey reads a key file: lines that begin with # are comments, the other one is the secret
// in hexadecimal. It reports whether others than its owner may read it.
func ReadKey(path string) (key sig.PrivateKey, exposed bool, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return key, false, fmt.Errorf("the peer's key: %s is not there; `charter peer init` makes one", path)
	}
	if err != nil {
		return key, false, fmt.Errorf("read the peer's key: %w", err)
	}
	var secret [32]byte
	found := false
	for line := range bytes.Lines(data) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		n := 0
		if len(line) == 64 && !found {
			n, _ = hex.Decode(secret[:], line)
		}
		if n != 32 {
			return key, false, fmt.Errorf("the peer's key: %s is damaged: want one line of 64 hexadecimal digits, besides comments; put back a copy", path)
		}
		found = true
	}
	if !found {
		return key, false, fmt.Errorf("the peer's key: %s is damaged: it holds no key; put back a copy", path)
	}
	if key, err = sig.ParsePrivateKey(secret); err != nil {
		return key, false, fmt.Errorf("the peer's key: %s is damaged: %w; put back a copy", path, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return key, false, fmt.Errorf("read the peer's key: %w", err)
	}
	return key, info.Mode().Perm()&0o077 != 0, nil
}

// ReadGenesis reads a genesis file.
func ReadGenesis(path string) (*types.Genesis, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the genesis: %s is not there; copy the network's genesis file to it, or make a network with `charter genesis`", path)
	}
	if err != nil {
		return nil, fmt.Errorf("read the genesis: %w", err)
	}
	g, err := types.ParseGenesis(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return g, nil
}
