package wallet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/address/v2/bech32"

	"charter/types"
)

var testChain = types.Hash{0xc0, 0xff, 0xee, 0x01, 0x02}

func testAddress(name string) Address {
	return Address{testPriv(name).Public(), testPriv("peer").Public()}
}

func TestAddressRoundTrip(t *testing.T) {
	for i := range 50 {
		a := testAddress(fmt.Sprint(i))
		if i%5 == 0 {
			a.Host = types.Key{}
		}
		text := a.Text(testChain)
		if len(text) != AddressChars || !strings.HasPrefix(text, "ch1") {
			t.Fatalf("address %q", text)
		}
		for _, s := range []string{text, strings.ToUpper(text), "  " + text + "\n"} {
			if got, err := ParseAddress(testChain, s); err != nil || got != a {
				t.Fatalf("%q: %v", s, err)
			}
		}
	}
}

// Each single slip is found, and its place told.
func TestAddressSlips(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 9))
	text := testAddress("ann").Text(testChain)
	refused := func(s string, kind Kind) *Error {
		t.Helper()
		_, err := ParseAddress(testChain, s)
		var e *Error
		if !errors.As(err, &e) || e.Kind != kind {
			t.Fatalf("%q: %v", s, err)
		}
		return e
	}
	for i := 3; i < len(text); i++ {
		c := bech32Chars[rng.IntN(32)]
		if c == text[i] {
			continue
		}
		e := refused(text[:i]+string(c)+text[i+1:], AddressChecksum)
		if want := fmt.Sprintf("'%c' should be '%c'", c, text[i]); e.Position != i+1 || !strings.Contains(e.Text, want) {
			t.Fatalf("character %d changed: %v", i+1, e)
		}
	}
	if e := refused("cg"+text[2:], AddressChecksum); e.Position != 2 {
		t.Fatalf("the prefix changed: %v", e)
	}
	for i := 3; i < len(text)-1; i += 7 {
		if text[i] == text[i+1] {
			continue
		}
		if e := refused(text[:i]+text[i+1:i+2]+text[i:i+1]+text[i+2:], AddressChecksum); e.Position != i+1 || !strings.Contains(e.Text, "changed places") {
			t.Fatalf("characters %d and the next swapped: %v", i+1, e)
		}
	}
	for i := 3; i < len(text); i += 13 {
		if e := refused(text[:i]+text[i+1:], AddressLength); e.Position == 0 || !strings.Contains(e.Text, "'"+text[i:i+1]+"' is probably missing") {
			t.Fatalf("character %d missing: %v", i+1, e)
		}
		if e := refused(text[:i]+"q"+text[i:], AddressLength); !strings.Contains(e.Text, "probably too much") {
			t.Fatalf("a character before %d too much: %v", i+1, e)
		}
		if e := refused(text[:i]+"b"+text[i+1:], AddressCharacter); e.Position != i+1 || !strings.Contains(e.Text, "should be '"+text[i:i+1]+"'") {
			t.Fatalf("character %d is none: %v", i+1, e)
		}
	}
	if e := refused(strings.ToUpper(text[:50])+text[50:], AddressCase); e.Position < 51 {
		t.Fatalf("mixed case: %v", e)
	}
}

// Two or three wrong characters are always noticed, and two never look like one.
func TestAddressManySlips(t *testing.T) {
	rng := rand.New(rand.NewPCG(10, 11))
	text := testAddress("ann").Text(testChain)
	for n := range 60 {
		s, wrong := []byte(text), 2+n%2
		for changed := make(map[int]bool); len(changed) < wrong; {
			i, c := 3+rng.IntN(len(s)-3), bech32Chars[rng.IntN(32)]
			if c != text[i] {
				s[i], changed[i] = c, true
			}
		}
		_, err := ParseAddress(testChain, string(s))
		var e *Error
		if !errors.As(err, &e) || e.Kind != AddressChecksum || wrong == 2 && strings.Contains(e.Text, "should be") {
			t.Fatalf("%d characters changed: %v", wrong, err)
		}
	}
}

// rawAddress is an address with any content, right in its checksum.
func rawAddress(hrp string, payload []byte, m bool) string {
	groups := must(bech32.ConvertBits(payload, 8, 5, true))
	if m {
		return must(bech32.EncodeM(hrp, groups))
	}
	return must(bech32.Encode(hrp, groups))
}

func FuzzParseAddress(f *testing.F) {
	text := testAddress("ann").Text(testChain)
	f.Add(text)
	f.Add(strings.ToUpper(text))
	f.Add("ch1")
	f.Add(strings.Replace(text, "q", "\u212a", 1))
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(testChain, s)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Kind < NotAddress || e.Kind > AddressPayload || e.Position < 0 || e.Position > AddressChars {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		if back := a.Text(testChain); back != strings.ToLower(strings.TrimSpace(s)) {
			t.Fatalf("%q reads as %q", s, back)
		}
	})
}

func FuzzParseMnemonic(f *testing.F) {
	f.Add(Mnemonic(testEntropy("ann")))
	f.Add(strings.Repeat("zoo ", 23) + "vote")
	f.Fuzz(func(t *testing.T, s string) {
		entropy, err := ParseMnemonic(s)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Kind > WordChecksum || e.Position > Words {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		if Mnemonic(entropy) != strings.Join(strings.Fields(strings.ToLower(s)), " ") {
			t.Fatalf("%q reads as other words", s)
		}
	})
}
