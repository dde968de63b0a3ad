// Package types is the alphabet of Charter: every noun that is signed, hashed or
// stored, and its one canonical encoding (spec/encoding.md).
//
// It holds no rule. A value that decodes is well formed, which means that it has
// one encoding and keeps its declared bounds; whether it is valid is for the
// packages above to say.
//
//	nouns      Hash, Key, Signature, Amount, Millis
//	the money  Output, Lock leaves, Transaction, Record
//	the past   Block, Checkpoint, CheckpointVote, Certificate, Snapshot
//	the facts  Event, KeyEvent, OutputState, PeerState, NameState
//	the law    Evidence, Reinstate, Standing
//	the start  Genesis, Params
package types

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
)

// Hash is a SHA-256 digest, 32 bytes. The zero hash means "none".
type Hash [32]byte

// Key is an x-only public key of secp256k1 (BIP-340), 32 bytes. That it is the x of a
// point is checked where it is used as a key, not where it is decoded.
type Key [32]byte

// Signature is a BIP-340 signature, 64 bytes.
type Signature [64]byte

// IsZero reports whether h is the zero hash, "none".
func (h Hash) IsZero() bool { return h == Hash{} }

// String is the hash in lower-case hexadecimal, 64 characters.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Short is the first eight hexadecimal characters, for logs and pictures.
func (h Hash) Short() string { return hex.EncodeToString(h[:4]) }

// MarshalText writes hexadecimal.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads exactly 64 hexadecimal characters.
func (h *Hash) UnmarshalText(b []byte) error { return unhex(h[:], b, "hash") }

// IsZero reports whether k is the zero key, "none".
func (k Key) IsZero() bool { return k == Key{} }

// String is the key in lower-case hexadecimal, 64 characters.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// Short is the first eight hexadecimal characters, for logs and pictures.
func (k Key) Short() string { return hex.EncodeToString(k[:4]) }

// MarshalText writes hexadecimal.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads exactly 64 hexadecimal characters.
func (k *Key) UnmarshalText(b []byte) error { return unhex(k[:], b, "key") }

// IsZero reports whether s is all zero, "none".
func (s Signature) IsZero() bool { return s == Signature{} }

// String is the signature in lower-case hexadecimal, 128 characters.
func (s Signature) String() string { return hex.EncodeToString(s[:]) }

// MarshalText writes hexadecimal.
func (s Signature) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads exactly 128 hexadecimal characters.
func (s *Signature) UnmarshalText(b []byte) error { return unhex(s[:], b, "signature") }

func unhex(dst, src []byte, what string) error {
	if len(src) != 2*len(dst) {
		return fmt.Errorf("%s: want %d hexadecimal characters, have %d", what, 2*len(dst), len(src))
	}
	if _, err := hex.Decode(dst, src); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Tag separates the domains of hashing: Tag(t).Hash(x) is
// SHA-256(SHA-256(t) ‖ SHA-256(t) ‖ x), as in BIP-340.
type Tag struct{ prefix [64]byte }

// NewTag makes the tag of a name. All of Charter's are listed in spec/encoding.md
// and start with "charter/".
func NewTag(name string) Tag {
	d := sha256.Sum256([]byte(name))
	var t Tag
	copy(t.prefix[:32], d[:])
	copy(t.prefix[32:], d[:])
	return t
}

// New is a running SHA-256 that has the tag in it already.
func (t Tag) New() hash.Hash {
	h := sha256.New()
	h.Write(t.prefix[:])
	return h
}

// Hash is the tagged hash of the parts put end to end. Callers keep the parts'
// borders unambiguous, by fixed lengths.
func (t Tag) Hash(parts ...[]byte) Hash {
	n := 64
	for _, p := range parts {
		n += len(p)
	}
	var small [512]byte
	buf := small[:0]
	if n > len(small) {
		buf = make([]byte, 0, n)
	}
	buf = append(buf, t.prefix[:]...)
	for _, p := range parts {
		buf = append(buf, p...)
	}
	return sha256.Sum256(buf)
}

// The tags of what this package hashes (spec/encoding.md, "Tags").
var (
	tagGenesis        = NewTag("charter/genesis")
	tagTransaction    = NewTag("charter/transaction")
	tagBlock          = NewTag("charter/block")
	tagCheckpoint     = NewTag("charter/checkpoint")
	tagCheckpointVote = NewTag("charter/checkpoint vote")
	tagSnapshot       = NewTag("charter/snapshot")
	tagLeaf           = NewTag("charter/leaf")
	tagBranch         = NewTag("charter/branch")
	tagRegisterPeer   = NewTag("charter/register peer")
	tagPayout         = NewTag("charter/payout")
	tagReinstate      = NewTag("charter/reinstate")
	tagSampleDraw     = NewTag("charter/sample draw")
	tagSample         = NewTag("charter/sample")
)
