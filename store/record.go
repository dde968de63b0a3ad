package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"charter/types"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Signed is the safety record: the last that a peer signed. Nothing at or below its heights may
// be signed again, over all lives of the peer.
//
// It stands twice. The log holds it in the batch of the block or vote that it speaks of. The file
// DIR/signed is written after that batch is durable and before the call returns, so before anything
// is sent: the log is equal to the file, or one signature ahead if a crash came between. A log
// that is behind the file has been put back from an old copy, or its disk has lost what
// it acknowledged; either way the network knows signatures that the peer does not.
type Signed struct {
	Count      uint64 // how many blocks and votes in all
	Height     uint64 // of the last block
	Block      types.Hash
	VoteHeight uint64 // of the highest checkpoint voted for
	Vote       types.Hash
}

func (r Signed) encode() []byte {
	e := types.NewEncoder(make([]byte, 0, 128))
	e.U64(r.Count)
	e.U64(r.Height)
	e.Hash(r.Block)
	e.U64(r.VoteHeight)
	e.Hash(r.Vote)
	return e.Data()
}

func readSigned(d *types.Decoder) Signed {
	return Signed{d.U64("count"), d.U64("height"), d.Hash("block"), d.U64("vote height"), d.Hash("vote")}
}

func decodeSigned(data []byte) (Signed, error) {
	d := types.NewDecoder("safety record", data)
	r := readSigned(d)
	return r, d.Finish()
}

// The file has two slots, each within a disk block of its own, written in turn, so that a write
// that is torn leaves the record before it. A slot is the record and a checksum
// that binds it to the chain and the peer.
const (
	slotSize   = 4096
	signedSize = 8 + 8 + 32 + 8 + 32
)

var tagSigned = types.NewTag("charter/store/signed")

// signedFile is DIR/signed, open.
type signedFile struct {
	vfs.File
	chain types.Hash
	peer  types.Key
}

func (f *signedFile) checksum(body []byte) types.Hash {
	return tagSigned.Hash(f.chain[:], f.peer[:], body)
}

// write makes r durable. It does not touch the record before it.
func (f *signedFile) write(r Signed) error {
	body := r.encode()
	sum := f.checksum(body)
	if _, err := f.WriteAt(append(body, sum[:]...), int64(r.Count%2)*slotSize); err != nil {
		return fmt.Errorf("write the safety record: %w", err)
	}
	if err := f.SyncData(); err != nil {
		return fmt.Errorf("sync the safety record: %w", err)
	}
	return nil
}

// read is the newest record that is whole, or false.
func (f *signedFile) read() (newest Signed, ok bool, err error) {
	for slot := range int64(2) {
		b := make([]byte, signedSize+32)
		if n, err := f.ReadAt(b, slot*slotSize); err != nil && !errors.Is(err, io.EOF) {
			return Signed{}, false, fmt.Errorf("read the safety record: %w", err)
		} else if n < len(b) {
			continue
		}
		r, err := decodeSigned(b[:signedSize])
		if err != nil || f.checksum(b[:signedSize]) != types.Hash(b[signedSize:]) || ok && r.Count < newest.Count {
			continue
		}
		newest, ok = r, true
	}
	return newest, ok, nil
}

// A directory with the file CREATING is one whose creation a crash has cut short, before anything was
// acknowledged: it is created again, from nothing. (The engine cannot open what it had half created.)
const creating = "CREATING"

// identify makes sure that the directory is a store of this chain and peer, which it has begun to
// create if need be, and opens the file of the safety record.
func (s *Store) identify() (fresh bool, err error) {
	text, err := readFile(s.fs, s.path("STORE"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("read what the store is: %w", err)
	}
	fresh = err != nil || s.exists(creating)
	if fresh {
		err = s.prepare()
	} else if err = s.checkIdentity(string(text)); err == nil && !s.exists("signed") {
		err = s.refuse(MustNotSign, "the file signed, the record of what the peer has signed, is missing", nil)
	}
	if err != nil {
		return false, err
	}
	f, err := s.fs.OpenReadWrite(s.path("signed"), vfs.WriteCategoryUnspecified)
	if err != nil {
		return false, fmt.Errorf("open the safety record: %w", err)
	}
	s.log.signed = &signedFile{f, s.opts.Chain, s.opts.Peer}
	if !fresh {
		return false, nil
	}
	if r, ok, err := s.log.signed.read(); err != nil {
		return false, err
	} else if ok && r.Count > 0 {
		return false, s.refuse(MustNotSign, fmt.Sprintf("the peer has signed %d times, up to height %d, and the blocks are gone", r.Count, r.Height), nil)
	}
	return true, s.log.signed.write(Signed{})
}

func (s *Store) exists(name string) bool {
	_, err := s.fs.Stat(s.path(name))
	return err == nil
}

// prepare begins to create a store in a directory that has no other things in it.
func (s *Store) prepare() error {
	names, err := s.fs.List(s.dir)
	if err != nil {
		return fmt.Errorf("list the store's directory: %w", err)
	}
	slices.Sort(names)
	begun := slices.Contains(names, creating)
	for _, name := range names {
		ours := name == "log" || name == "state" || name == "STORE"
		switch {
		case name == "LOCK" || name == "signed" || name == creating || ours && begun:
		case ours:
			return s.refuse(Damaged, "it has databases, and no file STORE that says whose", nil)
		default:
			return s.refuse(NotAStore, fmt.Sprintf("it holds %q", name), nil)
		}
	}
	if err := s.writeFile(creating, ""); err != nil {
		return err
	}
	for _, name := range []string{"log", "state"} {
		if err := s.fs.RemoveAll(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("create the store: %w", err)
		}
	}
	return nil
}

// created ends a creation: what it was to make is there and durable.
func (s *Store) created() error {
	if err := s.writeFile("STORE", s.identity()); err != nil {
		return err
	}
	if err := errors.Join(s.fs.Remove(s.path(creating)), syncDir(s.fs, s.dir)); err != nil {
		return fmt.Errorf("create the store: %w", err)
	}
	return nil
}

// writeFile makes a small file, durable.
func (s *Store) writeFile(name, text string) error {
	f, err := s.fs.Create(s.path(name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("create the store: %w", err)
	}
	_, err = f.Write([]byte(text))
	if err := errors.Join(err, f.Sync(), f.Close(), syncDir(s.fs, s.dir)); err != nil {
		return fmt.Errorf("create the store: %w", err)
	}
	return nil
}

// identity is the text of the file STORE.
func (s *Store) identity() string {
	return fmt.Sprintf("charter store\nformat %d\nchain %s\npeer %s\n", Format, s.opts.Chain, s.opts.Peer)
}

func (s *Store) checkIdentity(text string) error {
	if text == s.identity() {
		return nil
	}
	var format int
	if n, _ := fmt.Sscanf(text, "charter store\nformat %d\n", &format); n == 1 && format != Format {
		return s.refuse(UnknownFormat, fmt.Sprintf("it is of format %d, and this program knows format %d", format, Format), nil)
	}
	lines := strings.Split(text, "\n")
	var chain types.Hash
	var peer types.Key
	if len(lines) != 5 || lines[0] != "charter store" || lines[4] != "" ||
		unmarshal(lines[2], "chain ", &chain) != nil || unmarshal(lines[3], "peer ", &peer) != nil {
		return s.refuse(Damaged, "its file STORE does not say what it is", nil)
	}
	switch {
	case chain != s.opts.Chain:
		return s.refuse(WrongChain, fmt.Sprintf("it is of chain %s, not of %s", chain, s.opts.Chain), nil)
	case peer != s.opts.Peer:
		return s.refuse(WrongPeer, fmt.Sprintf("it is of peer %s, not of %s", peer, s.opts.Peer), nil)
	default:
		return s.refuse(Damaged, "its file STORE does not say what it is", nil)
	}
}

func unmarshal(line, name string, v interface{ UnmarshalText([]byte) error }) error {
	hex, ok := strings.CutPrefix(line, name)
	if !ok {
		return errMissing
	}
	return v.UnmarshalText([]byte(hex))
}

// readFile reads a small file: what is above 64 KiB is not read.
func readFile(fs vfs.FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	return b, errors.Join(err, f.Close())
}

// reconcile compares the two copies of the safety record, and both with the peer's blocks.
func (s *Store) reconcile() error {
	inLog, inFile, err := s.readRecords()
	if err != nil {
		return err
	}
	switch {
	case inLog.Count != inFile.Count && inLog.Count != inFile.Count+1, inLog.Count == inFile.Count && inLog != inFile:
		return s.refuse(MustNotSign, fmt.Sprintf("the log says %s, the file signed says %s", inLog, inFile), nil)
	case inLog.Count == inFile.Count+1:
		if err := s.log.signed.write(inLog); err != nil {
			return err
		}
	}
	s.log.record = inLog
	height, id, err := s.log.highest(s.opts.Peer)
	if err != nil {
		return s.read("own blocks", err)
	}
	if height != inLog.Height || id != inLog.Block {
		return s.refuse(MustNotSign, fmt.Sprintf("the peer's highest block is %s at height %d, and it says to have signed %s", id.Short(), height, inLog), nil)
	}
	return nil
}

func (s *Store) readRecords() (inLog, inFile Signed, err error) {
	if v, err := get(s.log.db, []byte{logSigned}); err != nil {
		return inLog, inFile, s.read("safety record", err)
	} else if v != nil {
		if inLog, err = decodeSigned(v); err != nil {
			return inLog, inFile, s.read("safety record", err)
		}
	}
	inFile, ok, err := s.log.signed.read()
	if err == nil && !ok {
		err = s.refuse(MustNotSign, "the file signed, the record of what the peer has signed, is damaged or another's", nil)
	}
	return inLog, inFile, err
}

// String says what was signed last.
func (r Signed) String() string {
	if r.Count == 0 {
		return "nothing signed"
	}
	return fmt.Sprintf("signature %d, block %s at height %d, vote %s at height %d", r.Count, r.Block.Short(), r.Height, r.Vote.Short(), r.VoteHeight)
}
