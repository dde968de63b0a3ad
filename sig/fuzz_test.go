package sig

import (
	"testing"

	"charter/types"
)

// Whatever the bytes, Verify and btcec behind strict parsing agree.
func FuzzVerify(f *testing.F) {
	r := random("fuzz")
	for range 4 {
		k, msg := drawKey(r), drawHash(r)
		pub, s := k.Public(), Sign(k, msg)
		f.Add(pub[:], msg[:], s[:])
	}
	f.Add(refBytes(refP), make([]byte, 32), append(refBytes(refP), refBytes(refN)...))
	f.Fuzz(func(t *testing.T, pub, msg, s []byte) {
		var k types.Key
		var m types.Hash
		var g types.Signature
		copy(k[:], pub)
		copy(m[:], msg)
		copy(g[:], s)
		err := Verify(k, m, g)
		if have := err == nil; have != btcecVerify(k, m, g) {
			t.Errorf("have %v, btcec %v", err, !have)
		}
		if err != nil && !IsKind(err, BadKey) && !IsKind(err, BadEncoding) && !IsKind(err, BadSignature) {
			t.Errorf("another error: %v", err)
		}
	})
}

// Whatever the bytes, VerifyVRF returns, and what it accepts has the one Gamma of its key
// and input.
func FuzzVerifyVRF(f *testing.F) {
	k := drawKey(random("fuzz"))
	pub := k.Public()
	for _, input := range []string{"", "input"} {
		proof := Prove(k, []byte(input))
		f.Add(pub[:], []byte(input), proof[:])
	}
	f.Add(make([]byte, 32), []byte{}, make([]byte, 97))
	f.Fuzz(func(t *testing.T, key, input, bytes []byte) {
		var claimed types.Key
		var proof types.VRFProof
		copy(claimed[:], key)
		copy(proof[:], bytes)
		out, err := VerifyVRF(claimed, input, proof)
		if err != nil {
			if !IsKind(err, BadKey) && !IsKind(err, BadEncoding) && !IsKind(err, BadProof) {
				t.Errorf("another error: %v", err)
			}
			return
		}
		if claimed == pub && out != VRFOutput(Prove(k, input)) {
			t.Errorf("accepted an output %s that is not the key's", out)
		}
	})
}

// A valid signature and a valid proof with any byte changed are refused.
func FuzzMutation(f *testing.F) {
	r := random("mutation")
	k, msg := drawKey(r), drawHash(r)
	s, proof := Sign(k, msg), Prove(k, msg[:])
	f.Add(uint8(0), uint8(1))
	f.Add(uint8(64+96), uint8(128))
	f.Fuzz(func(t *testing.T, at, change uint8) {
		if change == 0 {
			return
		}
		s, proof := s, proof
		if int(at) < len(s) {
			s[at] ^= change
			if Verify(k.Public(), msg, s) == nil {
				t.Errorf("signature with byte %d changed is accepted", at)
			}
		} else if i := int(at) - len(s); i < len(proof) {
			proof[i] ^= change
			if _, err := VerifyVRF(k.Public(), msg[:], proof); err == nil {
				t.Errorf("proof with byte %d changed is accepted", i)
			}
		}
	})
}
