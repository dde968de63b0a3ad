package proof

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"charter/forest"
	"charter/tlog"
	"charter/trie"
	"charter/types"
)

// The JSON form has the fields of the byte form under the names below: hashes, keys,
// signatures and opaque bytes in hexadecimal, amounts as decimal shares, times in
// milliseconds, paths as arrays of hashes; trie proofs, frontiers and transaction bodies
// as the hexadecimal of their bytes (spec/proofs.md, "JSON").
type (
	checkpointJSON struct {
		Chain        types.Hash   `json:"chain"`
		Height       uint64       `json:"height"`
		Anchor       types.Hash   `json:"anchor"`
		Time         types.Millis `json:"time_ms"`
		Events       uint64       `json:"events"`
		EventsRoot   types.Hash   `json:"events_root"`
		HistorySize  uint64       `json:"history_size"`
		HistoryRoot  types.Hash   `json:"history_root"`
		Outputs      uint64       `json:"outputs"`
		OutputsRoot  types.Hash   `json:"outputs_root"`
		KeysRoot     types.Hash   `json:"keys_root"`
		NamesRoot    types.Hash   `json:"names_root"`
		PeersRoot    types.Hash   `json:"peers_root"`
		SnapshotRoot types.Hash   `json:"snapshot_root"`
		TallyRoot    types.Hash   `json:"tally_root"`
	}
	happenedJSON struct {
		Kind        types.EventKind `json:"kind"` // 1 applied, 2 rejected, 3 payout
		Transaction types.Hash      `json:"transaction"`
		Block       types.Hash      `json:"block"`
		Height      uint64          `json:"height"`
		Time        types.Millis    `json:"time_ms"`
		First       uint64          `json:"first"`
		Outputs     uint16          `json:"outputs"`
		Reason      types.Reason    `json:"reason"`
	}
	outJSON struct {
		Value types.Amount `json:"value"`
		Lock  types.Key    `json:"lock"`
		Host  types.Key    `json:"host"`
	}
	memberJSON struct {
		Peer   types.Key    `json:"peer"`
		Shares types.Amount `json:"shares"`
	}
	voteJSON struct {
		Index     uint16          `json:"index"`
		Signature types.Signature `json:"signature"`
	}
	logJSON struct {
		Count uint64     `json:"count"`
		Root  types.Hash `json:"root"`
	}
	peerStateJSON struct {
		Peer     types.Key    `json:"peer"`
		Name     string       `json:"name"`
		Address  string       `json:"address"`
		Reward   types.Key    `json:"reward"`
		Shares   types.Amount `json:"shares"`
		Fees     types.Amount `json:"fees"`
		Standing standingJSON `json:"standing"`
	}
	standingJSON struct {
		Weight    types.Amount `json:"weight"`
		Since     uint64       `json:"since"`
		Present   uint32       `json:"present"`
		Witnesses uint16       `json:"witnesses"`
		Absent    uint64       `json:"absent"`
		Offences  uint16       `json:"offences"`
		Offended  uint64       `json:"offended"`
		Cleared   uint64       `json:"cleared"`
	}

	outputStateJSON struct {
		Output      outJSON      `json:"output"`
		Source      types.Hash   `json:"source"`
		Index       uint32       `json:"index"`
		BornHeight  uint64       `json:"born_height"`
		BornTime    types.Millis `json:"born_time_ms"`
		SpentHeight uint64       `json:"spent_height"`
	}
	keyEventJSON struct {
		Spent       bool         `json:"spent"`
		Position    uint64       `json:"position"`
		Transaction types.Hash   `json:"transaction"`
		Index       uint32       `json:"index"`
		Output      outJSON      `json:"output"`
		Height      uint64       `json:"height"`
		Time        types.Millis `json:"time_ms"`
	}
	registerJSON struct {
		Peer      types.Key       `json:"peer"`
		Name      string          `json:"name"`
		Address   string          `json:"address"`
		Reward    types.Key       `json:"reward"`
		Signature types.Signature `json:"signature"`
	}
	nameEventJSON struct {
		Transaction types.Hash   `json:"transaction"`
		Height      uint64       `json:"height"`
		Time        types.Millis `json:"time_ms"`
		Record      registerJSON `json:"record"`
	}
	nameStateJSON struct {
		Name  string    `json:"name"`
		Peer  types.Key `json:"peer"`
		Story logJSON   `json:"story"`
	}
	snapshotJSON struct {
		Height  uint64       `json:"height"`
		Members []memberJSON `json:"members"`
	}
	certificateJSON struct {
		Snapshot types.Hash `json:"snapshot"`
		Votes    []voteJSON `json:"votes"`
	}
	stepJSON struct {
		Snapshot    *snapshotJSON   `json:"snapshot"`
		Past        *pastJSON       `json:"past"`
		Checkpoint  checkpointJSON  `json:"checkpoint"`
		Certificate certificateJSON `json:"certificate"`
	}
	pastJSON struct {
		Checkpoint checkpointJSON `json:"checkpoint"`
		Path       tlog.Path      `json:"path"`
	}

	eventJSON struct {
		Checkpoint types.Hash   `json:"checkpoint"`
		Body       hexBytes     `json:"body"`
		Event      happenedJSON `json:"event"`
		Index      uint64       `json:"index"`
		Path       tlog.Path    `json:"path"`
		Past       *pastJSON    `json:"past"`
	}
	outputJSON struct {
		Checkpoint types.Hash      `json:"checkpoint"`
		Position   uint64          `json:"position"`
		State      outputStateJSON `json:"state"`
		Path       forest.Proof    `json:"path"`
	}
	keyJSON struct {
		Checkpoint types.Hash     `json:"checkpoint"`
		Lock       types.Key      `json:"lock"`
		Log        logJSON        `json:"log"`
		Path       hexBytes       `json:"path"`
		Prefix     hexBytes       `json:"prefix"`
		Events     []keyEventJSON `json:"events"`
	}
	nameJSON struct {
		Checkpoint types.Hash      `json:"checkpoint"`
		Name       string          `json:"name"`
		State      *nameStateJSON  `json:"state"`
		Path       hexBytes        `json:"path"`
		Prefix     hexBytes        `json:"prefix"`
		Events     []nameEventJSON `json:"events"`
	}
	peerJSON struct {
		Checkpoint types.Hash     `json:"checkpoint"`
		Peer       types.Key      `json:"peer"`
		State      *peerStateJSON `json:"state"`
		Path       hexBytes       `json:"path"`
	}
	consistencyJSON struct {
		Old     types.Hash `json:"old"`
		New     types.Hash `json:"new"`
		Path    tlog.Path  `json:"path"`
		History tlog.Path  `json:"history"`
	}
	advanceJSON struct {
		Chain types.Hash `json:"chain"`
		Steps []stepJSON `json:"steps"`
	}
	fileJSON struct {
		Chain   types.Hash   `json:"chain"`
		Steps   []stepJSON   `json:"steps"`
		Event   eventJSON    `json:"event"`
		Outputs []outputJSON `json:"outputs"`
	}
)

// hexBytes are bytes in hexadecimal.
type hexBytes []byte

func (b hexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, b), nil }

func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.AppendDecode(nil, text)
	return err
}

// each is a list converted one by one; never nil, so that JSON has [] and not null.
func each[A, B any](list []A, convert func(*A) B) []B {
	out := make([]B, len(list))
	for i := range list {
		out[i] = convert(&list[i])
	}
	return out
}

// some is a converted pointer, nil for nil.
func some[A, B any](p *A, convert func(*A) B) *B {
	if p == nil {
		return nil
	}
	b := convert(p)
	return &b
}

func path[P ~[]types.Hash](p P) P {
	if p == nil {
		return P{}
	}
	return p
}

func snapshotToJSON(s *types.Snapshot) snapshotJSON {
	return snapshotJSON{s.Height, each(s.Members, func(m *types.Member) memberJSON { return memberJSON(*m) })}
}

func snapshotOfJSON(s *snapshotJSON) types.Snapshot {
	return types.Snapshot{Height: s.Height, Members: each(s.Members, func(m *memberJSON) types.Member { return types.Member(*m) })}
}

func stepToJSON(s *Step) stepJSON {
	votes := each(s.Certificate.Votes, func(v *types.MemberVote) voteJSON { return voteJSON(*v) })
	return stepJSON{some(s.Snapshot, snapshotToJSON), some(s.Past, pastToJSON), checkpointJSON(s.Checkpoint), certificateJSON{s.Certificate.Snapshot, votes}}
}

func stepOfJSON(s *stepJSON) Step {
	votes := each(s.Certificate.Votes, func(v *voteJSON) types.MemberVote { return types.MemberVote(*v) })
	return Step{some(s.Snapshot, snapshotOfJSON), some(s.Past, pastOfJSON), types.Checkpoint(s.Checkpoint), types.Certificate{Snapshot: s.Certificate.Snapshot, Votes: votes}}
}

func pastToJSON(p *Past) pastJSON { return pastJSON{checkpointJSON(p.Checkpoint), path(p.Path)} }

func pastOfJSON(p *pastJSON) Past { return Past{types.Checkpoint(p.Checkpoint), p.Path} }

func eventToJSON(p *Event) eventJSON {
	return eventJSON{p.Checkpoint, p.Body, happenedJSON(p.Event), p.Index, path(p.Path), some(p.Past, pastToJSON)}
}

func eventOfJSON(p *eventJSON) Event {
	return Event{p.Checkpoint, p.Body, types.Event(p.Event), p.Index, p.Path, some(p.Past, pastOfJSON)}
}

func outputToJSON(p *Output) outputJSON {
	s := p.State
	return outputJSON{p.Checkpoint, p.Position, outputStateJSON{outJSON(s.Output), s.Source, s.Index, s.BornHeight, s.BornTime, s.SpentHeight}, path(p.Path)}
}

func outputOfJSON(p *outputJSON) Output {
	s := p.State
	return Output{p.Checkpoint, p.Position, types.OutputState{Output: types.Output(s.Output), Source: s.Source, Index: s.Index,
		BornHeight: s.BornHeight, BornTime: s.BornTime, SpentHeight: s.SpentHeight}, p.Path}
}

func keyEventToJSON(v *types.KeyEvent) keyEventJSON {
	return keyEventJSON{v.Spent, v.Position, v.Transaction, v.Index, outJSON(v.Output), v.Height, v.Time}
}

func keyEventOfJSON(v *keyEventJSON) types.KeyEvent {
	return types.KeyEvent{Spent: v.Spent, Position: v.Position, Transaction: v.Transaction, Index: v.Index,
		Output: types.Output(v.Output), Height: v.Height, Time: v.Time}
}

// JSON is the proof's form for people: one object, whose "proof" names the kind.
func JSON(s Statement) []byte {
	var v any
	switch p := s.(type) {
	case *Event:
		v = eventToJSON(p)
	case *Output:
		v = outputToJSON(p)
	case *Key:
		v = keyJSON{p.Checkpoint, p.Lock, logJSON(p.Log), p.Path.Encode(), p.Prefix.Encode(), each(p.Events, keyEventToJSON)}
	case *Name:
		state := some(p.State, func(n *types.NameState) nameStateJSON { return nameStateJSON{n.Name, n.Peer, logJSON(n.Story)} })
		events := each(p.Events, func(v *types.NameEvent) nameEventJSON {
			return nameEventJSON{v.Transaction, v.Height, v.Time, registerJSON(v.Record)}
		})
		v = nameJSON{p.Checkpoint, p.Name, state, p.Path.Encode(), p.Prefix.Encode(), events}
	case *Peer:
		state := some(p.State, func(s *types.PeerState) peerStateJSON {
			return peerStateJSON{s.Peer, s.Name, s.Address, s.Reward, s.Shares, s.Fees, standingJSON(s.Standing)}
		})
		v = peerJSON{p.Checkpoint, p.Peer, state, p.Path.Encode()}
	case *Consistency:
		v = consistencyJSON{p.Old, p.New, path(p.Path), path(p.History)}
	case *Advance:
		v = advanceJSON{p.Chain, each(p.Steps, stepToJSON)}
	case *File:
		v = fileJSON{p.Chain, each(p.Steps, stepToJSON), eventToJSON(&p.Event), each(p.Outputs, outputToJSON)}
	}
	body, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("proof does not marshal: %v", err)) // all fields are plain values
	}
	head := fmt.Sprintf(`{"proof":%q,"version":%d,`, kindNames[s.kind()], version)
	return append([]byte(head), body[1:]...)
}

// ParseJSON reads the JSON form of any proof, and refuses fields that it does not know and
// values that the byte form cannot hold. The error is Malformed.
func ParseJSON(data []byte) (Statement, error) {
	s, err := parseJSON(data)
	if err != nil {
		return nil, &Error{Kind: Malformed, Step: "json", Cause: err}
	}
	return Decode(s.Encode()) // which has every bound, and the one form of each value
}

func parseJSON(data []byte) (Statement, error) {
	if len(data) > 4*MaxSize {
		return nil, errors.New("too long")
	}
	var head struct {
		Proof   string `json:"proof"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, err
	}
	if head.Version != version {
		return nil, fmt.Errorf("version %d, want %d", head.Version, version)
	}
	switch head.Proof {
	case "event":
		return read(data, func(p *eventJSON) (Statement, error) { v := eventOfJSON(p); return &v, nil })
	case "output":
		return read(data, func(p *outputJSON) (Statement, error) { v := outputOfJSON(p); return &v, nil })
	case "key":
		return read(data, keyOfJSON)
	case "name":
		return read(data, nameOfJSON)
	case "peer":
		return read(data, peerOfJSON)
	case "consistency":
		return read(data, func(p *consistencyJSON) (Statement, error) { v := Consistency(*p); return &v, nil })
	case "advance":
		return read(data, func(p *advanceJSON) (Statement, error) { return &Advance{p.Chain, each(p.Steps, stepOfJSON)}, nil })
	case "file":
		return read(data, func(p *fileJSON) (Statement, error) {
			return &File{p.Chain, each(p.Steps, stepOfJSON), eventOfJSON(&p.Event), each(p.Outputs, outputOfJSON)}, nil
		})
	}
	return nil, fmt.Errorf("proof %q is of no known kind", head.Proof)
}

// read is the object with head and fields, and nothing else, as a statement.
func read[T any](data []byte, of func(*T) (Statement, error)) (Statement, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, err
	}
	delete(fields, "proof")
	delete(fields, "version")
	rest, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(rest))
	d.DisallowUnknownFields()
	v := new(T)
	if err := d.Decode(v); err != nil {
		return nil, err
	}
	return of(v)
}

func keyOfJSON(p *keyJSON) (Statement, error) {
	path, err := trie.DecodeProof(p.Path)
	if err != nil {
		return nil, err
	}
	prefix, err := tlog.DecodeFrontier(p.Prefix)
	if err != nil {
		return nil, err
	}
	return &Key{p.Checkpoint, p.Lock, types.LogState(p.Log), *path, prefix, each(p.Events, keyEventOfJSON)}, nil
}

func nameOfJSON(p *nameJSON) (Statement, error) {
	path, err := trie.DecodeProof(p.Path)
	if err != nil {
		return nil, err
	}
	prefix, err := tlog.DecodeFrontier(p.Prefix)
	if err != nil {
		return nil, err
	}
	state := some(p.State, func(n *nameStateJSON) types.NameState {
		return types.NameState{Name: n.Name, Peer: n.Peer, Story: types.LogState(n.Story)}
	})
	events := each(p.Events, func(v *nameEventJSON) types.NameEvent {
		return types.NameEvent{Transaction: v.Transaction, Height: v.Height, Time: v.Time, Record: types.RegisterPeer(v.Record)}
	})
	return &Name{p.Checkpoint, p.Name, state, *path, prefix, events}, nil
}

func peerOfJSON(p *peerJSON) (Statement, error) {
	path, err := trie.DecodeProof(p.Path)
	if err != nil {
		return nil, err
	}
	state := some(p.State, func(s *peerStateJSON) types.PeerState {
		return types.PeerState{Peer: s.Peer, Name: s.Name, Address: s.Address, Reward: s.Reward, Shares: s.Shares, Fees: s.Fees, Standing: types.Standing(s.Standing)}
	})
	return &Peer{p.Checkpoint, p.Peer, state, *path}, nil
}
