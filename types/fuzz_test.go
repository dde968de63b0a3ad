package types

import (
	"bytes"
	"testing"
)

// fuzz runs one decoder over anything: bytes that it takes are the one encoding of their value.
func fuzz(f *testing.F, name string) {
	c := codecNamed(name)
	for seed := range uint64(4) {
		data := c.encode(c.draw(newDraw(seed)))
		f.Add(data)
		f.Add(data[:len(data)/2])
	}
	f.Fuzz(func(t *testing.T, data []byte) { c.one(t, data) })
}

func FuzzDecodeTransaction(f *testing.F)     { fuzz(f, "transaction") }
func FuzzDecodeTransactionBody(f *testing.F) { fuzz(f, "transaction body") }
func FuzzDecodeBlock(f *testing.F)           { fuzz(f, "block") }
func FuzzDecodePayload(f *testing.F)         { fuzz(f, "payload") }
func FuzzDecodeSnapshot(f *testing.F)        { fuzz(f, "snapshot") }
func FuzzDecodeCheckpoint(f *testing.F)      { fuzz(f, "checkpoint") }
func FuzzDecodeCertificate(f *testing.F)     { fuzz(f, "certificate") }
func FuzzDecodeEvent(f *testing.F)           { fuzz(f, "event") }
func FuzzDecodeKeyEvent(f *testing.F)        { fuzz(f, "key event") }
func FuzzDecodeNameEvent(f *testing.F)       { fuzz(f, "name event") }
func FuzzDecodeOutputState(f *testing.F)     { fuzz(f, "output state") }
func FuzzDecodePeerState(f *testing.F)       { fuzz(f, "peer state") }
func FuzzDecodeNameState(f *testing.F)       { fuzz(f, "name state") }
func FuzzDecodeEvidence(f *testing.F)        { fuzz(f, "evidence") }
func FuzzDecodeBallot(f *testing.F)          { fuzz(f, "ballot") }
func FuzzReadSignedVote(f *testing.F)        { fuzz(f, "signed vote") }

// A genesis that is read is written and read again as the same chain.
func FuzzParseGenesis(f *testing.F) {
	f.Add(genesis().JSON())
	f.Add([]byte(`{"network":"a","Network":"b"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := ParseGenesis(data)
		if err != nil {
			return
		}
		again, err := ParseGenesis(g.JSON())
		if err != nil || again.ChainID() != g.ChainID() || !bytes.Equal(again.JSON(), g.JSON()) {
			t.Fatalf("another genesis after writing it: %v", err)
		}
		for _, p := range g.Peers {
			state := PeerState{Peer: p.Peer, Name: p.Name, Address: p.Address, Reward: p.Reward}
			if _, err := DecodePeerState(state.Encode()); err != nil {
				t.Fatalf("peer %+v has no record: %v", p, err)
			}
		}
	})
}

// An amount that is read has one text with no more digits than it needs, which reads the same.
func FuzzParseAmount(f *testing.F) {
	for _, s := range []string{"0", "12.5", "0.00000001", "92233720368.54775807", "007", "1.10"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAmount(s)
		if err != nil {
			return
		}
		if again, err := ParseAmount(a.String()); err != nil || again != a || len(a.String()) > len(s) || a > MaxSupply {
			t.Fatalf("%q is %d, which is written %q: %v", s, a, a, err)
		}
	})
}
