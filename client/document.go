package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"os"

	"charter/proof"
	"charter/types"
)

// ProofSuffix is what the name of a document's proof file adds to the document's.
const ProofSuffix = ".charter"

// HashFile is the SHA-256 of a file, read once. Tell, which may be nil, hears how many bytes of
// how many are done.
func HashFile(ctx context.Context, path string, tell func(done, total int64)) (h types.Hash, err error) {
	f, err := os.Open(path)
	if err != nil {
		return h, refuse(Disk, err, "cannot read the document: %v", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = errors.New(path + " is a directory: name a file, or an archive of it")
	}
	sum, buffer := sha256.New(), make([]byte, 1<<20)
	for done := int64(0); err == nil; {
		var n int
		if n, err = f.Read(buffer); n > 0 {
			sum.Write(buffer[:n])
			if done += int64(n); tell != nil {
				tell(done, info.Size())
			}
		}
		if err == nil {
			err = ctx.Err()
		}
	}
	if err != io.EOF {
		return h, refuse(Disk, err, "cannot read the document: %v", err)
	}
	return types.Hash(sum.Sum(nil)), nil
}

// Trust is what a proof is checked against: a genesis, a checkpoint, or the checkpoint with the
// genesis that says how its chain works.
type Trust struct {
	Genesis    *types.Genesis
	Checkpoint *types.Hash // its id
}

// ReadTrust reads trust as people give it: a genesis file, "" for none; and a checkpoint, "" for
// none: its id in hexadecimal, or a file with the id, with the checkpoint's bytes, or with
// the agent's answer in JSON. Errors: NoTrust.
func ReadTrust(genesis, checkpoint string) (t Trust, err error) {
	if genesis == "" && checkpoint == "" {
		return t, refuse(NoTrust, nil, "a proof is checked against what you trust: give the network's genesis file with --genesis, or a checkpoint with --checkpoint")
	}
	if genesis != "" {
		if t.Genesis, err = ReadGenesis(genesis); err != nil {
			return t, err
		}
	}
	if checkpoint != "" {
		if t.Checkpoint, err = readCheckpoint(checkpoint); err != nil {
			return t, err
		}
	}
	return t, nil
}

// ReadGenesis reads a genesis file. Errors: NoTrust.
func ReadGenesis(path string) (*types.Genesis, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, refuse(NoTrust, err, "cannot read the genesis: %v", err)
	}
	g, err := types.ParseGenesis(data)
	if err != nil {
		return nil, refuse(NoTrust, err, "%s is no genesis that a network can run with: %v", path, err)
	}
	return g, nil
}

func readCheckpoint(given string) (*types.Hash, error) {
	id := new(types.Hash)
	if id.UnmarshalText([]byte(given)) == nil {
		return id, nil
	}
	data, err := os.ReadFile(given)
	if err != nil {
		return nil, refuse(NoTrust, err, "%q is neither the id of a checkpoint (64 hexadecimal digits) nor a file that can be read: %v", given, err)
	}
	if cp, err := types.DecodeCheckpoint(data); err == nil {
		*id = cp.ID()
		return id, nil
	}
	var said struct {
		ID types.Hash `json:"id"`
	}
	if json.Unmarshal(data, &said) == nil && !said.ID.IsZero() {
		return &said.ID, nil
	}
	if err := id.UnmarshalText(bytes.TrimSpace(data)); err != nil {
		return nil, refuse(NoTrust, err, "%s holds no checkpoint: want its id in hexadecimal, its bytes, or an agent's answer in JSON", given)
	}
	return id, nil
}

// VerifyProof checks a proof file offline, and says what it proves. With a document, it must
// prove that this one was notarised. Errors: NotProof, of which the cause is package proof's.
func VerifyProof(file []byte, t Trust, document *types.Hash) (*proof.Verdict, error) {
	f, err := proof.DecodeFile(file)
	if err != nil {
		return nil, refuse(NotProof, err, "this is no proof file: %v", err)
	}
	var trusted proof.Trusted
	switch {
	case t.Checkpoint == nil:
		trusted = proof.Genesis(t.Genesis)
	case t.Genesis != nil:
		trusted = proof.Pin(t.Genesis.ChainID(), &t.Genesis.Params, *t.Checkpoint)
	default:
		// Without the chain's parameters the checkpoint vouches for itself alone.
		if n := len(f.Steps); n == 0 || f.Steps[n-1].Checkpoint.ID() != *t.Checkpoint {
			return nil, refuse(NotProof, nil, "the proof does not end at checkpoint %s: give the genesis too, so that what comes behind it can be checked", t.Checkpoint)
		}
		trusted = proof.Pin(f.Chain, &types.MainParams, *t.Checkpoint)
	}
	v, err := f.Verify(trusted, document)
	if err != nil {
		return nil, notProven(err)
	}
	return v, nil
}

func notProven(err error) error {
	next := "do not rely on the file, and ask for it again"
	if proof.IsKind(err, proof.WrongChain) {
		next = "the file is of another network: give that network's genesis"
	}
	return refuse(NotProof, err, "not proven: %v; %s", err, next)
}

// Verify checks a proof file from the wallet's genesis on, as anybody can, and says what it proves.
func (c *Client) Verify(ctx context.Context, file []byte, document *types.Hash) (*proof.Verdict, error) {
	if err := c.through(ctx, func(visit, context.Context) error { return nil }); err != nil {
		return nil, err
	}
	v, err := proof.VerifyFile(file, c.start(), document)
	if err != nil {
		return nil, notProven(err)
	}
	return v, nil
}
