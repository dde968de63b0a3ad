package client

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	v1 "charter/api/charter/v1"
	"charter/ledger"
	"charter/proof"
	"charter/types"
	"charter/wallet"
)

// OffenceSuffix ends the name of a file with evidence as the ledger takes it.
const OffenceSuffix = ".charter-offence"

const offenceMagic = "charter offence\x01"

// Offence is evidence as the ledger takes it, of a chain: what anybody can publish and verify (spec/ledger.md, "Evidence").
type Offence struct {
	Chain    types.Hash
	Evidence types.Evidence
}

// Encode is the bytes of an offence file.
func (o *Offence) Encode() []byte {
	e := types.NewEncoder(nil)
	e.Raw([]byte(offenceMagic))
	e.Hash(o.Chain)
	e.Raw(o.Evidence.Encode())
	return e.Data()
}

// DecodeOffence reads an offence file. Errors: NotEvidence.
func DecodeOffence(data []byte) (*Offence, error) {
	n := len(offenceMagic)
	if len(data) < n+32 || string(data[:n]) != offenceMagic {
		return nil, refuse(NotEvidence, nil, "this is no evidence of an offence")
	}
	r, err := types.DecodeEvidence(data[n+32:])
	if err != nil {
		return nil, refuse(NotEvidence, err, "this is no evidence of an offence: %v", err)
	}
	return &Offence{types.Hash(data[n : n+32]), r}, nil
}

// Verify checks evidence by itself: that the offender signed it all, and that it shows an offence. Proven says that
// nothing more is needed; else the ledger has the last word. Errors: NotEvidence.
func (o *Offence) Verify(g *types.Genesis) (proven bool, err error) {
	if g.ChainID() != o.Chain {
		return false, refuse(NotEvidence, nil, "the evidence is of chain %s, and the genesis of another: give that network's genesis", o.Chain)
	}
	if err := ledger.VerifyEvidence(o.Chain, &g.Params, &o.Evidence); err != nil {
		return false, refuse(NotEvidence, err, "it shows no offence: %v", err)
	}
	_, more := ledger.EvidenceBase(&o.Evidence)
	return !more, nil
}

// Sentence says what the evidence shows, in plain English, given a genesis that tells names.
func (o *Offence) Sentence(g *types.Genesis) string {
	r := &o.Evidence
	who := r.Offender().String()
	if name := peerName(g, r.Offender()); name != "" {
		who = fmt.Sprintf("%s (%s)", name, who)
	}
	switch r.Offence {
	case types.Fork:
		return fmt.Sprintf("Peer %s forked its line: it signed block %s of height %d and block %s of height %d, both behind %s.", who,
			r.Blocks[0].ID(o.Chain), r.Blocks[0].Height, r.Blocks[1].ID(o.Chain), r.Blocks[1].Height, r.Blocks[0].Previous)
	case types.TwoVotes:
		return fmt.Sprintf("Peer %s voted for two checkpoints of height %d: %s and %s.", who, r.Votes[0].Height, r.Votes[0].Checkpoint, r.Votes[1].Checkpoint)
	case types.FalseVote:
		return fmt.Sprintf("Peer %s voted for checkpoint %s of height %d. That is an offence if the chain has another one there: the ledger decides.", who, r.Votes[0].Checkpoint, r.Votes[0].Height)
	default:
		return fmt.Sprintf("Peer %s signed block %s of height %d with sample %s. That is an offence if the ledger gives another one: the ledger decides.",
			who, r.Blocks[0].ID(o.Chain), r.Blocks[0].Height, r.Blocks[0].Sample)
	}
}

// Offences is the evidence in a wallet's own: of two certified checkpoints, what each peer did that signed both.
// Errors: NotEvidence, also of what an agent only said.
func (v *Evidence) Offences(g *types.Genesis) (out []Offence, err error) {
	if _, err := v.Verify(g); err != nil {
		return nil, err
	}
	a, b := &v.Conflict.Sides[0], &v.Conflict.Sides[1]
	votes := make(map[types.Key]types.SignedVote)
	for _, s := range []*Side{a, b} {
		for _, vote := range s.Certificate.Votes {
			m := s.Snapshot.Members[vote.Index]
			cast := types.SignedVote{Peer: m.Peer, CheckpointVote: types.CheckpointVote{Height: s.Checkpoint.Height, Checkpoint: s.Checkpoint.ID(), Signature: vote.Signature}}
			if first, both := votes[m.Peer]; both {
				out = append(out, Offence{v.Chain, types.TwoVotesEvidence(first, cast)})
			}
			votes[m.Peer] = cast
		}
	}
	slices.SortFunc(out, func(x, y Offence) int {
		p, q := x.Evidence.Offender(), y.Evidence.Offender()
		return bytes.Compare(p[:], q[:])
	})
	return out, nil
}

// OffencesIn is the evidence that a transaction published, from the file that proves the transaction. Errors: NotEvidence,
// and those of the proof.
func OffencesIn(file []byte, g *types.Genesis) (out []Offence, err error) {
	if _, err := proof.VerifyFile(file, proof.Genesis(g), nil); err != nil {
		return nil, err
	}
	s, err := proof.Decode(file)
	if err != nil {
		return nil, err
	}
	tx, err := types.DecodeTransactionBody(s.(*proof.File).Event.Body)
	if err != nil {
		return nil, err
	}
	for _, record := range tx.Records {
		if r, ok := record.(types.Evidence); ok {
			out = append(out, Offence{g.ChainID(), r})
		}
	}
	if len(out) == 0 {
		return nil, refuse(NotEvidence, nil, "the transaction holds no evidence")
	}
	return out, nil
}

// agentTimeout is how long Publish and FetchProof wait for an agent.
const agentTimeout = 20 * time.Second

// Publish gives evidence to an agent, as the transaction that needs no shares. It is final when the agent's chain has
// ordered it. Errors: NotEvidence, and those of the agent.
func (o *Offence) Publish(ctx context.Context, agent string, g *types.Genesis) (id types.Hash, err error) {
	if _, err := o.Verify(g); err != nil {
		return id, err
	}
	l, err := dial(agent, agentTimeout)
	if err != nil {
		return id, err
	}
	defer l.close()
	tx := o.Evidence.Transaction()
	_, _, err = call(ctx, l, "Submit", l.rpc.Submit, &v1.SubmitRequest{Transaction: tx.Encode(), Chain: o.Chain.String()})
	return tx.ID(o.Chain), err
}

// FetchProof is the file that proves a transaction, as an agent gives it; it is not verified.
func FetchProof(ctx context.Context, agent string, id types.Hash) ([]byte, error) {
	l, err := dial(agent, agentTimeout)
	if err != nil {
		return nil, err
	}
	defer l.close()
	m, _, err := call(ctx, l, "Proof", l.rpc.Proof, &v1.ProofRequest{What: &v1.ProofRequest_Transaction{Transaction: id.String()}})
	if err != nil {
		return nil, err
	}
	return m.GetProof(), nil
}

// PeerState is a peer's entry, proven; nil if there is none. Errors as those of Peers.
func (c *Client) PeerState(ctx context.Context, key types.Key) (state *types.PeerState, err error) {
	err = c.through(ctx, func(v visit, ctx context.Context) (err error) {
		if _, err = v.advance(ctx); err == nil {
			state, err = v.peer(ctx, key)
		}
		return err
	})
	return state, err
}

// Ballot is the wallet's vote to forgive a peer its offences up to this one, and how many shares it has. Errors: those of
// wallet.Ballot.
func (c *Client) Ballot(peer types.Key, offences uint16) (b types.Ballot, shares types.Amount, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.w.Ballot(types.ReinstateDigest(c.w.Chain(), peer, offences))
}

// Reinstate publishes votes to reinstate a peer, and waits until it is proven what became of that. Errors as those of Pay.
func (c *Client) Reinstate(ctx context.Context, r types.Reinstate, note string, tell func(Progress)) (Line, error) {
	same := func(t *wallet.Transaction) bool { return false }
	return c.intend(ctx, note, same, wallet.Final, tell, func(w *wallet.Wallet, t wallet.Terms) (wallet.Transaction, error) {
		return w.Reinstate(t, r)
	})
}
