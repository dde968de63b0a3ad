package seal

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"filippo.io/age"
)

const testWork = 2

func TestRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{0, 1, 1000, 64 << 10, 200_000} {
		plain := make([]byte, n)
		for i := range plain {
			plain[i] = byte(rng.Uint32())
		}
		file := must(Encrypt(plain, "open sesame", testWork))
		if back, err := Decrypt(file, "open sesame"); err != nil || !bytes.Equal(back, plain) {
			t.Fatalf("%d bytes: %v", n, err)
		}
		key := must(NewKey())
		file = must(key.Encrypt(plain))
		again := must(ParseKey(key.Secret()))
		if back, err := again.Decrypt(file); err != nil || !bytes.Equal(back, plain) {
			t.Fatalf("%d bytes by key: %v", n, err)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A file of ours is a file of age's, and the other way round.
func TestAgeOpensIt(t *testing.T) {
	file := must(Encrypt([]byte("words"), "open sesame", testWork))
	r := must(age.Decrypt(bytes.NewReader(file), must(age.NewScryptIdentity("open sesame"))))
	if got := must(io.ReadAll(r)); string(got) != "words" {
		t.Fatalf("age reads %q", got)
	}
	to := must(age.NewScryptRecipient("open sesame"))
	to.SetWorkFactor(testWork)
	var out bytes.Buffer
	w := must(age.Encrypt(&out, to))
	io.WriteString(w, "by the tool")
	w.Close()
	if got, err := Decrypt(out.Bytes(), "open sesame"); err != nil || string(got) != "by the tool" {
		t.Fatalf("%q, %v", got, err)
	}
	key := must(NewKey())
	ids := must(age.ParseIdentities(strings.NewReader(key.Secret() + "\n")))
	r = must(age.Decrypt(bytes.NewReader(must(key.Encrypt([]byte("state")))), ids...))
	if got := must(io.ReadAll(r)); string(got) != "state" {
		t.Fatalf("age reads %q", got)
	}
}

func TestErrorKinds(t *testing.T) {
	file := must(Encrypt([]byte("twenty-four words"), "open sesame", testWork))
	key, other := must(NewKey()), must(NewKey())
	keyed := must(key.Encrypt([]byte("state")))
	mac := bytes.Index(file, []byte("\n--- ")) + 10
	changed := func(at int) []byte {
		b := bytes.Clone(file)
		b[at] = 'A' + (b[at]-'A'+1)%26 // stays in the alphabet of the header
		return b
	}
	costly := bytes.Replace(file, fmt.Appendf(nil, " %d\n", testWork), []byte(" 30\n"), 1)
	open := func(file []byte, passphrase string) error { _, err := Decrypt(file, passphrase); return err }

	rows := []struct {
		name string
		kind Kind
		err  error
	}{
		{"another passphrase", WrongPassphrase, open(file, "open sesam")},
		{"no passphrase", NoPassphrase, open(file, "")},
		{"nothing to seal with", NoPassphrase, second(Encrypt(nil, "", testWork))},
		{"a text file", NotSealed, open([]byte("# README\n"), "open sesame")},
		{"an empty file", Damaged, open(nil, "open sesame")},
		{"cut in the first line", Damaged, open(file[:10], "open sesame")},
		{"cut in the header", Damaged, open(file[:60], "open sesame")},
		{"cut at the end", Damaged, open(file[:len(file)-1], "open sesame")},
		{"grown", Damaged, open(append(bytes.Clone(file), 0), "open sesame")},
		{"header authentication changed", Damaged, open(changed(mac), "open sesame")},
		{"body changed", Damaged, open(changed(len(file)-3), "open sesame")},
		{"nonce changed", Damaged, open(changed(len(file)-40), "open sesame")},
		{"sealed to a key", WrongKey, open(keyed, "open sesame")},
		{"sealed to another key", WrongKey, second(other.Decrypt(keyed))},
		{"sealed with a passphrase, opened by key", WrongKey, second(key.Decrypt(file))},
		{"body of a key's file changed", Damaged, second(key.Decrypt(append(bytes.Clone(keyed[:len(keyed)-1]), keyed[len(keyed)-1]^1)))},
		{"too much work asked", TooCostly, open(costly, "open sesame")},
		{"too much work wanted", TooCostly, second(Encrypt(nil, "open sesame", MaxWork+1))},
		{"not a key", BadKey, second(ParseKey("AGE-SECRET-KEY-1QQQ"))},
	}
	seen := make(map[Kind]bool)
	for _, r := range rows {
		seen[r.kind] = true
		if !IsKind(r.err, r.kind) {
			t.Errorf("%s: want %q, have %v", r.name, r.kind, r.err)
		}
	}
	for k := range kinds {
		if !seen[k] {
			t.Errorf("no row for kind %q", k)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// Every single changed bit is noticed, and never opens as something else.
func TestEveryBit(t *testing.T) {
	file := must(Encrypt([]byte("secret"), "open sesame", testWork))
	for i := range file {
		for bit := range 8 {
			b := bytes.Clone(file)
			b[i] ^= 1 << bit
			if _, err := Decrypt(b, "open sesame"); err == nil {
				t.Fatalf("bit %d of byte %d changed, and the file opens", bit, i)
			} else if !IsKind(err, WrongPassphrase) && !IsKind(err, Damaged) && !IsKind(err, NotSealed) && !IsKind(err, WrongKey) && !IsKind(err, TooCostly) {
				t.Fatalf("byte %d: error without a kind: %v", i, err)
			}
		}
	}
}

func TestKeyIsNotPrinted(t *testing.T) {
	key := must(NewKey())
	for _, s := range []string{fmt.Sprint(key), fmt.Sprintf("%+v", key), fmt.Sprintf("%#v", key), fmt.Sprintf("%x", key)} {
		if s != "redacted" {
			t.Errorf("a key prints as %q", s)
		}
	}
}

func FuzzDecrypt(f *testing.F) {
	f.Add(must(Encrypt([]byte("x"), "p", testWork)))
	f.Add([]byte(intro))
	f.Fuzz(func(t *testing.T, file []byte) {
		if bytes.Contains(file, []byte(" 1")) || bytes.Contains(file, []byte(" 20")) {
			return // would only test the speed of scrypt
		}
		if _, err := Decrypt(file, "p"); err != nil {
			var e *Error
			if e, _ = err.(*Error); e == nil {
				t.Fatalf("error without a kind: %v", err)
			}
		}
	})
}

func BenchmarkEncryptByKey(b *testing.B) {
	key, plain := must(NewKey()), make([]byte, 1<<20)
	b.SetBytes(int64(len(plain)))
	for b.Loop() {
		must(key.Encrypt(plain))
	}
}

func BenchmarkEncryptDefaultWork(b *testing.B) {
	for b.Loop() {
		must(Encrypt(nil, "open sesame", DefaultWork))
	}
}
