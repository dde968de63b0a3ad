package wallet

import (
	"errors"
	"strconv"
	"strings"

	"github.com/btcsuite/btcd/address/v2/bech32"

	"charter/sig"
	"charter/types"
)

// Address is where a payment goes: a lock, and the peer with which the shares are to be
// registered, or none.
//
// For people it is 118 characters of bech32m (BIP-350) with the prefix "ch" over
//
//	4 bytes   first of the chain's id
//	32 bytes  lock
//	32 bytes  host
//
// At this length the checksum finds any three wrong characters, and no two of them can look
// like a single one.
type Address struct{ Lock, Host types.Key }

const (
	addressPrefix  = "ch"
	addressStart   = addressPrefix + "1"
	addressPayload = 4 + 32 + 32
	// AddressChars is the length of every address.
	AddressChars = len(addressStart) + (addressPayload*8+4)/5 + 6
	bech32Chars  = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
)

// Text is the address for people, in lower case.
func (a Address) Text(chain types.Hash) string {
	payload := append(append(append(make([]byte, 0, addressPayload), chain[:4]...), a.Lock[:]...), a.Host[:]...)
	groups, err := bech32.ConvertBits(payload, 8, 5, true)
	if err == nil {
		var text string
		if text, err = bech32.EncodeM(addressPrefix, groups); err == nil {
			return text
		}
	}
	panic("wallet: bech32m of 68 bytes: " + err.Error())
}

// ParseAddress reads an address of this chain, in lower or upper case, with white space
// around it perhaps. Errors: all kinds from NotAddress to AddressPayload; where one slip
// explains what is wrong, the error says which, and nothing is ever mended silently.
func ParseAddress(chain types.Hash, text string) (Address, error) {
	given := strings.TrimSpace(text)
	s := strings.Map(asciiLower, given)
	if err := checkShape(given, s); err != nil {
		return Address{}, err
	}
	payload, ok := unwrapAddress(s)
	if !ok {
		at, slip := findSlip(s)
		return Address{}, refuseAt(AddressChecksum, at, "the address is mistyped: %s", slip)
	}
	if len(payload) != addressPayload {
		return Address{}, refuse(AddressPayload, "the address has a right checksum over bits that no wallet writes")
	}
	if string(payload[:4]) != string(chain[:4]) {
		return Address{}, refuse(AddressNetwork, "this is an address of another network: its chain begins with %x, and this one with %x", payload[:4], chain[:4])
	}
	a := Address{types.Key(payload[4:36]), types.Key(payload[36:])}
	if sig.CheckKey(a.Lock) != nil || !a.Host.IsZero() && sig.CheckKey(a.Host) != nil {
		return Address{}, refuse(AddressPayload, "the address has a right checksum over something that is no key: what is paid to it could never be spent")
	}
	return a, nil
}

// checkShape checks all that shows before the checksum is computed; s is given in lower case.
func checkShape(given, s string) error {
	switch {
	case len(s) != AddressChars && !strings.HasPrefix(s, addressStart):
		return refuse(NotAddress, "this is not an address: one begins with %s and has %d characters", addressStart, AddressChars)
	case len(s) != AddressChars:
		at, slip := findSlip(s)
		return refuseAt(AddressLength, at, "an address has %d characters, and this has %d: %s", AddressChars, len(s), slip)
	}
	if at := mixedCase(given); at > 0 {
		return refuseAt(AddressCase, at, "the address mixes upper and lower case, first at character %d: was something else pasted into it?", at)
	}
	for i := len(addressStart); i < len(s); i++ {
		if strings.IndexByte(bech32Chars, s[i]) < 0 {
			at, slip := i+1, "there is more wrong with it too"
			if n, found := findSlip(s); n == at {
				slip = found
			}
			return refuseAt(AddressCharacter, at, "character %d, %q, is none that an address has: %s", at, s[i], slip)
		}
	}
	return nil
}

func asciiLower(r rune) rune {
	if r >= 'A' && r <= 'Z' {
		r += 'a' - 'A'
	}
	return r
}

// mixedCase is the position, from 1, of the first letter in another case than the first
// letter; 0 if there is none.
func mixedCase(s string) int {
	var first byte
	for i := range len(s) {
		switch c := s[i] &^ 0x20; {
		case c < 'A' || c > 'Z':
		case first == 0:
			first = s[i]
		case s[i]&0x20 != first&0x20:
			return i + 1
		}
	}
	return 0
}

// unwrapAddress is the payload of an address of the right length, and whether the checksum
// is right. The payload is nil if its last bit, which is padding, is not zero.
func unwrapAddress(s string) ([]byte, bool) {
	if len(s) != AddressChars || !strings.HasPrefix(s, addressStart) {
		return nil, false
	}
	_, groups, version, err := bech32.DecodeNoLimitWithVersion(s)
	if err != nil || version != bech32.VersionM {
		return nil, false
	}
	payload, err := bech32.ConvertBits(groups, 5, 8, false)
	var padding bech32.ErrInvalidIncompleteGroup
	if err != nil && !errors.As(err, &padding) {
		panic("wallet: bech32m groups: " + err.Error())
	}
	return payload, true
}

// findSlip tries every single slip of a typist on s and gives the position, from 1, of the
// one that explains it, with a sentence; or 0 and a sentence that says there is none.
func findSlip(s string) (at int, sentence string) {
	right := func(candidate string) bool {
		return len(candidate) == AddressChars && strings.HasPrefix(candidate, addressStart) && residue(candidate) == bech32.VersionMConst
	}
	switch len(s) {
	case AddressChars:
		for i := range s {
			for _, c := range candidatesAt(i) {
				if right(s[:i] + c + s[i+1:]) {
					return i + 1, "character " + place(i) + " is probably wrong: '" + s[i:i+1] + "' should be '" + c + "'"
				}
			}
		}
		for i := range len(s) - 1 {
			if right(s[:i] + s[i+1:i+2] + s[i:i+1] + s[i+2:]) {
				return i + 1, "characters " + place(i) + " and " + place(i+1) + " have probably changed places"
			}
		}
	case AddressChars - 1:
		for i := range len(s) + 1 {
			for _, c := range candidatesAt(i) {
				if right(s[:i] + c + s[i:]) {
					return i + 1, "a '" + c + "' is probably missing before character " + place(i)
				}
			}
		}
	case AddressChars + 1:
		for i := range s {
			if right(s[:i] + s[i+1:]) {
				return i + 1, "character " + place(i) + ", '" + s[i:i+1] + "', is probably too much"
			}
		}
	}
	return 0, "no single slip explains it; ask for it again"
}

// residue is BIP-173's checksum function over an address, which bech32 has too and keeps to
// itself; a search needs it thousands of times. A character that no address has gives 0.
func residue(s string) bech32.ChecksumConst {
	chk := 1
	step := func(v int) {
		top := chk >> 25
		chk = chk&0x1ffffff<<5 ^ v
		for bit, g := range [...]int{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			if top>>bit&1 == 1 {
				chk ^= g
			}
		}
	}
	for _, v := range [...]int{'c' >> 5, 'h' >> 5, 0, 'c' & 31, 'h' & 31} {
		step(v)
	}
	for _, c := range []byte(s[len(addressStart):]) {
		v := strings.IndexByte(bech32Chars, c)
		if v < 0 {
			return 0
		}
		step(v)
	}
	return bech32.ChecksumConst(chk)
}

// candidatesAt are the characters that may stand at a place of an address.
func candidatesAt(i int) []string {
	if i < len(addressStart) {
		return []string{addressStart[i : i+1]}
	}
	return strings.Split(bech32Chars, "")
}

func place(i int) string { return strconv.Itoa(i + 1) }
