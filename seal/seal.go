// Package seal encrypts what a wallet keeps on disk. A sealed file is an age file
// (age-encryption.org/v1), and opens with the age tool too:
//
//	age -d head.age > key.txt              asks for the passphrase
//	age -d -i key.txt body.age             what was sealed with the Key in key.txt
//
// There are two ways to seal. Encrypt takes a passphrase, and takes about a second on
// purpose (scrypt), so that passphrases cannot be guessed fast. A Key takes no time: it is
// made once, kept under the passphrase, and seals what is written often.
//
// It is no box between wallets, and knows nothing of what it seals.
//
// The one exception to "no randomness of their own" on this floor: age draws file keys,
// salts and nonces from the operating system, and offers no other way. So two sealings of
// the same bytes differ, and nothing that is compared or replayed may hold a sealed file.
package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"filippo.io/age"
)

// Work factors: scrypt runs 2^w times. At DefaultWork a guess takes about a second and
// 256 MiB; a file that asks for more than MaxWork is not opened.
const (
	MinWork     = 1
	DefaultWork = 18
	MaxWork     = 20
)

// Kind says why a file was not opened.
type Kind uint8

const (
	// NotSealed: not an age file at all.
	NotSealed Kind = iota + 1
	// WrongPassphrase: an age file under another passphrase. A file whose salt or wrapped
	// key is damaged looks the same; one damaged anywhere else does not.
	WrongPassphrase
	// Damaged: the file is cut, grown, or has a byte changed.
	Damaged
	// WrongKey: an age file that is sealed in another way: to another key, or to a key
	// where a passphrase was given, or the other way round.
	WrongKey
	// TooCostly: the file asks for more work than MaxWork.
	TooCostly
	// NoPassphrase: the passphrase is empty.
	NoPassphrase
	// BadKey: a text that is no Key.
	BadKey
)

var kinds = map[Kind]string{
	NotSealed:       "this is not a sealed file",
	WrongPassphrase: "wrong passphrase",
	Damaged:         "the sealed file is damaged; restore it from a copy, or the wallet from its words",
	WrongKey:        "the file is sealed with another key",
	TooCostly:       "the file asks for too much work to open",
	NoPassphrase:    "the passphrase is empty",
	BadKey:          "this is not a sealing key",
}

// String is the kind in words.
func (k Kind) String() string { return kinds[k] }

// Error is what this package returns for what it refuses.
type Error struct {
	Kind  Kind
	Cause error // what age said, may be nil
}

func (e *Error) Error() string {
	if e.Cause == nil {
		return e.Kind.String()
	}
	return fmt.Sprintf("%s (%v)", e.Kind, e.Cause)
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Cause }

// IsKind reports whether err is an Error of kind k.
func IsKind(err error, k Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == k
}

// Encrypt seals plain under a passphrase, with work from MinWork to MaxWork (DefaultWork
// but in tests). Errors: NoPassphrase, TooCostly.
func Encrypt(plain []byte, passphrase string, work int) ([]byte, error) {
	if passphrase == "" {
		return nil, &Error{Kind: NoPassphrase}
	}
	if work < MinWork || work > MaxWork {
		return nil, &Error{TooCostly, fmt.Errorf("work factor %d, want %d to %d", work, MinWork, MaxWork)}
	}
	to, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, err
	}
	to.SetWorkFactor(work)
	return encrypt(plain, to)
}

// Decrypt opens what Encrypt, or `age -p`, sealed. Errors: all kinds but BadKey.
func Decrypt(file []byte, passphrase string) ([]byte, error) {
	if passphrase == "" {
		return nil, &Error{Kind: NoPassphrase}
	}
	return decrypt(file, underPassphrase(passphrase), WrongPassphrase)
}

// Key seals and opens files without a passphrase. It prints as "redacted".
type Key struct{ id *age.X25519Identity }

// NewKey draws a key.
func NewKey() (Key, error) {
	id, err := age.GenerateX25519Identity()
	return Key{id}, err
}

// ParseKey reads what Secret wrote. Errors: BadKey.
func ParseKey(secret string) (Key, error) {
	id, err := age.ParseX25519Identity(secret)
	if err != nil {
		return Key{}, &Error{Kind: BadKey} // age's error could quote a secret with a slip in it
	}
	return Key{id}, nil
}

// Secret is the key itself, "AGE-SECRET-KEY-1…", a line of an identity file of age.
func (k Key) Secret() string { return k.id.String() }

// Format writes "redacted", whatever the verb.
func (k Key) Format(s fmt.State, _ rune) { io.WriteString(s, "redacted") }

// Encrypt seals plain with the key.
func (k Key) Encrypt(plain []byte) ([]byte, error) { return encrypt(plain, k.id.Recipient()) }

// Decrypt opens what Encrypt sealed. Errors: NotSealed, WrongKey, Damaged.
func (k Key) Decrypt(file []byte) ([]byte, error) { return decrypt(file, k.id, WrongKey) }

func encrypt(plain []byte, to age.Recipient) ([]byte, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to)
	if err == nil {
		_, err = w.Write(plain)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("seal %d bytes: %w", len(plain), err)
	}
	return out.Bytes(), nil
}

const intro = "age-encryption.org/v1\n"

func decrypt(file []byte, id age.Identity, mismatch Kind) ([]byte, error) {
	if n := min(len(file), len(intro)); string(file[:n]) != intro[:n] {
		return nil, &Error{Kind: NotSealed}
	} else if n < len(intro) {
		return nil, &Error{Damaged, fmt.Errorf("only %d bytes are left", n)}
	}
	r, err := age.Decrypt(bytes.NewReader(file), id)
	if err != nil {
		var e *Error
		var none *age.NoIdentityMatchError
		switch {
		case errors.As(err, &e):
			return nil, e
		case errors.As(err, &none):
			return nil, &Error{Kind: mismatch}
		}
		return nil, &Error{Damaged, err}
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		return nil, &Error{Damaged, err}
	}
	return plain, nil
}

// underPassphrase is age's scrypt identity behind a check of what the file is.
type underPassphrase string

// Unwrap is called by age with the stanzas of the header, before the header's own
// authentication, which needs the key that is unwrapped here.
func (p underPassphrase) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	if len(stanzas) != 1 || stanzas[0].Type != "scrypt" {
		return nil, &Error{WrongKey, errors.New("it is not sealed with a passphrase")}
	}
	if args := stanzas[0].Args; len(args) == 2 {
		if work, err := strconv.Atoi(args[1]); err == nil && work > MaxWork {
			return nil, &Error{TooCostly, fmt.Errorf("work factor %d, at most %d", work, MaxWork)}
		}
	}
	id, err := age.NewScryptIdentity(string(p))
	if err != nil {
		return nil, err
	}
	return id.Unwrap(stanzas)
}
