package sig

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"charter/types"
)

var update = flag.Bool("update", false, "write spec/vectors/sig.json anew")

// hexBytes is bytes as hexadecimal in JSON.
type hexBytes []byte

func (b hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(b)), nil }
func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

// The cases of spec/vectors/sig.json. Error is the kind in words, absent where the case
// is valid. Secret is absent where there is none.
type (
	signatureCase struct {
		Comment   string   `json:"comment"`
		Secret    hexBytes `json:"secret,omitempty"`
		Key       hexBytes `json:"key"`
		Message   hexBytes `json:"message"`
		Signature hexBytes `json:"signature"`
		Error     string   `json:"error,omitempty"`
	}
	setCase struct {
		Comment   string     `json:"comment"`
		Secrets   []hexBytes `json:"secrets,omitempty"`
		Keys      []hexBytes `json:"keys"`
		Aggregate hexBytes   `json:"aggregate,omitempty"`
		Message   hexBytes   `json:"message,omitempty"`
		Signature hexBytes   `json:"signature,omitempty"` // of a holder of all secrets
		Error     string     `json:"error,omitempty"`
	}
	lockCase struct {
		Comment string       `json:"comment"`
		Secret  hexBytes     `json:"secret,omitempty"`
		Inner   hexBytes     `json:"inner"`
		Leaves  []hexBytes   `json:"leaf_hashes"` // of the tree built over them in this order
		Paths   [][]hexBytes `json:"paths"`       // of each leaf, siblings from the leaf up
		Root    hexBytes     `json:"root"`        // all zero: no tree
		Lock    hexBytes     `json:"lock,omitempty"`
		Message hexBytes     `json:"message,omitempty"`
		Sig     hexBytes     `json:"signature,omitempty"` // by the key path
		Error   string       `json:"error,omitempty"`
	}
	vrfCase struct {
		Comment string   `json:"comment"`
		Secret  hexBytes `json:"secret,omitempty"`
		Key     hexBytes `json:"key"`
		Input   hexBytes `json:"input"`
		Point   hexBytes `json:"hash_to_curve,omitempty"`
		Proof   hexBytes `json:"proof"`
		Output  hexBytes `json:"output,omitempty"`
		Error   string   `json:"error,omitempty"`
	}
	vectors struct {
		About      string          `json:"about"`
		Signatures []signatureCase `json:"signatures"`
		Sets       []setCase       `json:"key_sets"`
		Locks      []lockCase      `json:"locks"`
		VRF        []vrfCase       `json:"vrf"`
	}
)

const aboutVectors = "Charter, package sig. Signatures: BIP-340 with auxiliary randomness zero. " +
	"Key sets: BIP-327 key aggregation over the sorted set of even points; a set of one is itself. " +
	"Locks: BIP-341's construction, tags charter/lock and charter/branch. " +
	"VRF: RFC 9381's frame, RFC 9380 hash to curve of key and input under the tag charter/vrf/secp256k1_XMD:SHA-256_SSWU_RO_, " +
	"BIP-374 proof with auxiliary randomness zero and no message; output under the tag charter/vrf."

// TestVectors holds the package to spec/vectors/sig.json: what is drawn, signed and proven
// here must be what is there, to the byte, and what is there must verify, by the package
// and by the twin, or be refused for the reason it gives.
func TestVectors(t *testing.T) {
	path := filepath.Join(root(t), "spec", "vectors", "sig.json")
	var fresh bytes.Buffer
	enc := json.NewEncoder(&fresh)
	enc.SetIndent("", "  ")
	if err := enc.Encode(drawVectors(t)); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, fresh.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(golden, fresh.Bytes()) {
		t.Error("spec/vectors/sig.json is not what this code makes: if the change is meant, go test ./sig -run Vectors -update")
	}
	var v vectors
	dec := json.NewDecoder(bytes.NewReader(golden))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	for _, c := range v.Signatures {
		err := Verify(types.Key(c.Key), types.Hash(c.Message), types.Signature(c.Signature))
		judge(t, c.Comment, err, c.Error)
		if refVerify(c.Key, c.Message, c.Signature) != (c.Error == "") {
			t.Errorf("%s: the twin disagrees", c.Comment)
		}
	}
	for _, c := range v.Sets {
		checkSet(t, c)
	}
	for _, c := range v.Locks {
		checkLock(t, c)
	}
	for _, c := range v.VRF {
		out, err := VerifyVRF(types.Key(c.Key), c.Input, types.VRFProof(c.Proof))
		judge(t, c.Comment, err, c.Error)
		if err == nil && !bytes.Equal(out[:], c.Output) {
			t.Errorf("%s: output %s", c.Comment, out)
		}
		ref, ok := refVRF(c.Key, c.Input, c.Proof)
		if ok != (c.Error == "") || ok && !bytes.Equal(ref, c.Output) {
			t.Errorf("%s: the twin disagrees", c.Comment)
		}
	}
}

// judge compares an error with the kind, in words, that a vector wants.
func judge(t *testing.T, comment string, err error, want string) {
	t.Helper()
	have := ""
	if err != nil {
		have, _, _ = strings.Cut(err.Error(), ":")
	}
	if have != want {
		t.Errorf("%s: %v, want %q", comment, err, want)
	}
}

func checkSet(t *testing.T, c setCase) {
	var keys []types.Key
	for _, k := range c.Keys {
		keys = append(keys, types.Key(k))
	}
	have, err := Aggregate(keys)
	judge(t, c.Comment, err, c.Error)
	if err != nil {
		return
	}
	if !bytes.Equal(have[:], c.Aggregate) || !refVerify(c.Aggregate, c.Message, c.Signature) {
		t.Errorf("%s: aggregate %s", c.Comment, have)
	}
}

func checkLock(t *testing.T, c lockCase) {
	have, err := LockKey(types.Key(c.Inner), types.Hash(c.Root))
	judge(t, c.Comment, err, c.Error)
	if err != nil {
		return
	}
	if !bytes.Equal(have[:], c.Lock) || !refVerify(c.Lock, c.Message, c.Sig) {
		t.Errorf("%s: lock %s", c.Comment, have)
	}
	for i, leaf := range c.Leaves {
		var path []types.Hash
		for _, h := range c.Paths[i] {
			path = append(path, types.Hash(h))
		}
		if root := RootFromPath(types.Hash(leaf), path); !bytes.Equal(root[:], c.Root) {
			t.Errorf("%s: leaf %d leads to %s", c.Comment, i, root)
		}
	}
}

// drawSecret is a key with the secret that it was parsed from, of an odd point as often as
// of an even one.
func drawSecret(r *rand.ChaCha8) (hexBytes, PrivateKey) {
	secret := drawHash(r)
	k, err := ParsePrivateKey([32]byte(secret))
	if err != nil {
		panic(err)
	}
	return secret[:], k
}

func drawVectors(t *testing.T) vectors {
	return vectors{aboutVectors, drawSignatures(), drawSets(t), drawLocks(t), drawVRF(t)}
}

func drawSignatures() (out []signatureCase) {
	r := random("vectors: signatures")
	for range 4 {
		secret, k := drawSecret(r)
		msg := drawHash(r)
		pub, s := k.Public(), Sign(k, msg)
		out = append(out, signatureCase{"valid", secret, pub[:], msg[:], s[:], ""})
	}
	k, other, msg := drawKey(r), drawKey(r).Public(), drawHash(r)
	pub, s := k.Public(), Sign(k, msg)
	spoil := func(comment string, kind Kind, f func(key, msg, sig hexBytes)) {
		c := signatureCase{comment, nil, bytes.Clone(pub[:]), bytes.Clone(msg[:]), bytes.Clone(s[:]), kind.String()}
		f(c.Key, c.Message, c.Signature)
		out = append(out, c)
	}
	spoil("key is not the x of a point", BadKey, func(key, _, _ hexBytes) { copy(key, refBytes(bigHex("05"))) })
	spoil("key is the field's prime", BadKey, func(key, _, _ hexBytes) { copy(key, refBytes(refP)) })
	spoil("r is the field's prime", BadEncoding, func(_, _, s hexBytes) { copy(s, refBytes(refP)) })
	spoil("s is the curve's order", BadEncoding, func(_, _, s hexBytes) { copy(s[32:], refBytes(refN)) })
	spoil("key of another", BadSignature, func(key, _, _ hexBytes) { copy(key, other[:]) })
	spoil("message of another", BadSignature, func(_, msg, _ hexBytes) { msg[31] ^= 1 })
	spoil("r with a bit turned", BadSignature, func(_, _, s hexBytes) { s[0] ^= 1 })
	spoil("s with a bit turned", BadSignature, func(_, _, s hexBytes) { s[63] ^= 1 })
	spoil("s negated", BadSignature, func(_, _, s hexBytes) {
		n := refScalar(s[32:])
		copy(s[32:], refBytes(n.Sub(refN, n)))
	})
	spoil("key is 1 in its form p + 1", BadKey, func(key, _, _ hexBytes) {
		copy(key, refBytes(new(big.Int).Add(refP, big.NewInt(1))))
	})
	spoil("R's y is odd, else right", BadSignature, func(_, _, s hexBytes) {
		odd := rogueSign(k, oddNonce(), msg)
		copy(s, odd[:])
	})
	spoil("R is at infinity and r zero, else right", BadSignature, func(_, _, s hexBytes) {
		zero := rogueSign(k, 0, msg)
		copy(s, zero[:])
	})
	spoil("s = 1 in its form n + 1", BadEncoding, func(_, _, s hexBytes) {
		copy(s[32:], refBytes(new(big.Int).Add(refN, big.NewInt(1))))
	})
	return out
}

func drawSets(t *testing.T) (out []setCase) {
	r := random("vectors: sets")
	for _, n := range []int{1, 2, 3, 5} {
		c := setCase{Comment: "valid; keys in the order of drawing, not sorted"}
		var privs []PrivateKey
		var pubs []types.Key
		for range n {
			secret, k := drawSecret(r)
			pub := k.Public()
			privs, pubs = append(privs, k), append(pubs, pub)
			c.Secrets, c.Keys = append(c.Secrets, secret), append(c.Keys, pub[:])
		}
		msg := drawHash(r)
		agg, err := Aggregate(pubs)
		if err != nil {
			t.Fatal(err)
		}
		s, err := SignSet(privs, msg)
		if err != nil {
			t.Fatal(err)
		}
		c.Aggregate, c.Message, c.Signature = agg[:], msg[:], s[:]
		out = append(out, c)
	}
	a, b := drawKey(r).Public(), drawKey(r).Public()
	return append(out,
		setCase{Comment: "no keys", Keys: []hexBytes{}, Error: BadKeySet.String()},
		setCase{Comment: "a key twice", Keys: []hexBytes{a[:], b[:], a[:]}, Error: BadKeySet.String()},
		setCase{Comment: "a key that is not the x of a point", Keys: []hexBytes{a[:], refBytes(bigHex("05"))}, Error: BadKey.String()},
	)
}

func drawLocks(t *testing.T) (out []lockCase) {
	r := random("vectors: locks")
	for _, n := range []int{0, 1, 2, 3, 5} {
		secret, k := drawSecret(r)
		inner, msg := k.Public(), drawHash(r)
		var leaves []types.Leaf
		for i := range n {
			leaves = append(leaves, types.Leaf{After: types.Millis(1000 * (i + 1))})
		}
		treeRoot, paths, err := LockTree(leaves)
		if err != nil {
			t.Fatal(err)
		}
		lock, err := LockKey(inner, treeRoot)
		if err != nil {
			t.Fatal(err)
		}
		priv, err := LockPrivate(k, treeRoot)
		if err != nil {
			t.Fatal(err)
		}
		s := Sign(priv, msg)
		c := lockCase{Comment: "valid; leaf i is `after 1000·(i+1)`", Secret: secret, Inner: inner[:], Leaves: []hexBytes{},
			Paths: [][]hexBytes{}, Root: treeRoot[:], Lock: lock[:], Message: msg[:], Sig: s[:]}
		for i := range leaves {
			h := leaves[i].Hash()
			path := []hexBytes{}
			for _, sibling := range paths[i] {
				path = append(path, bytes.Clone(sibling[:]))
			}
			c.Leaves, c.Paths = append(c.Leaves, h[:]), append(c.Paths, path)
		}
		out = append(out, c)
	}
	some := drawHash(r)
	return append(out, lockCase{Comment: "inner key is not the x of a point", Inner: refBytes(bigHex("05")),
		Leaves: []hexBytes{}, Paths: [][]hexBytes{}, Root: some[:], Error: BadKey.String()})
}

func drawVRF(t *testing.T) (out []vrfCase) {
	r := random("vectors: vrf")
	for _, n := range []int{0, 1, 40, 200} {
		secret, k := drawSecret(r)
		input := make([]byte, n)
		r.Read(input)
		pub, proof := k.Public(), Prove(k, input)
		output, err := VerifyVRF(pub, input, proof)
		if err != nil {
			t.Fatal(err)
		}
		h := refHashToCurve(append(bytes.Clone(pub[:]), input...), curveSuite)
		out = append(out, vrfCase{"valid", secret, pub[:], input, refCompress(h), proof[:], output[:], ""})
	}
	k, other, input := drawKey(r), drawKey(r).Public(), []byte("input")
	pub, proof := k.Public(), Prove(k, input)
	spoil := func(comment string, kind Kind, f func(key, input, proof hexBytes)) {
		c := vrfCase{comment, nil, bytes.Clone(pub[:]), bytes.Clone(input), nil, bytes.Clone(proof[:]), nil, kind.String()}
		f(c.Key, c.Input, c.Proof)
		out = append(out, c)
	}
	spoil("key is not the x of a point", BadKey, func(key, _, _ hexBytes) { copy(key, refBytes(bigHex("05"))) })
	spoil("Gamma's first byte is 4", BadEncoding, func(_, _, p hexBytes) { p[0] = 4 })
	spoil("Gamma's x is not the x of a point", BadEncoding, func(_, _, p hexBytes) { copy(p[1:], refBytes(bigHex("05"))) })
	spoil("Gamma's x is the field's prime", BadEncoding, func(_, _, p hexBytes) { copy(p[1:], refBytes(refP)) })
	spoil("commitments are at infinity, hashed as 02 and 32 zero bytes, else right", BadProof, func(_, _, p hexBytes) {
		rogue := rogueProve(k, input)
		copy(p, rogue[:])
	})
	spoil("s is the curve's order", BadEncoding, func(_, _, p hexBytes) { copy(p[65:], refBytes(refN)) })
	spoil("key of another", BadProof, func(key, _, _ hexBytes) { copy(key, other[:]) })
	spoil("input of another", BadProof, func(_, input, _ hexBytes) { input[0] ^= 1 })
	spoil("Gamma negated", BadProof, func(_, _, p hexBytes) { p[0] ^= 1 })
	spoil("e with a bit turned", BadProof, func(_, _, p hexBytes) { p[33] ^= 1 })
	spoil("s with a bit turned", BadProof, func(_, _, p hexBytes) { p[96] ^= 1 })
	return out
}
