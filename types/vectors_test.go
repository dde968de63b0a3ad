package types

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

var update = flag.Bool("update", false, "rewrite the vectors")

const vectorFile = "../spec/vectors/types.json"

type vectors struct {
	About   string          `json:"about"`
	Genesis genesisVector   `json:"genesis"`
	Values  []valueVector   `json:"values"`
	Refused []refusedVector `json:"refused"`
	Amounts []amountVector  `json:"amounts"`
	NotRead []string        `json:"not_amounts"`
	Tags    []tagVector     `json:"tags"`
	Leaves  []leafVector    `json:"leaves"`
	Digests []digestVector  `json:"digests"`
}

type genesisVector struct {
	JSON     json.RawMessage `json:"json"`
	Encoding string          `json:"encoding"`
	Chain    Hash            `json:"chain"`
}

type valueVector struct {
	Type     string          `json:"type"`
	Fields   json.RawMessage `json:"fields"`
	Encoding string          `json:"encoding"`
	ID       *Hash           `json:"id,omitempty"`
}

type refusedVector struct {
	Type     string `json:"type"`
	Encoding string `json:"encoding"`
	Kind     string `json:"kind"`
}

type amountVector struct {
	Text    string `json:"text"`
	Units   string `json:"units"`
	Written string `json:"written"`
}

type tagVector struct {
	Tag  string `json:"tag"`
	Data string `json:"data"`
	Hash Hash   `json:"hash"`
}

type leafVector struct {
	Fields json.RawMessage `json:"fields"`
	Leaf   string          `json:"leaf"`
	Hash   Hash            `json:"hash"`
	Branch Hash            `json:"branch"`
}

type digestVector struct {
	Record json.RawMessage `json:"record"`
	Input  json.RawMessage `json:"input"`
	Digest Hash            `json:"digest"`
	Height string          `json:"height"`
	Payout Hash            `json:"payout"`
}

// plain is a value for people: fields by their names in lower case, bytes in hexadecimal, whole
// numbers of eight bytes and amounts as decimal strings.
func plain(v reflect.Value) any {
	switch x := v.Interface().(type) {
	case Amount:
		return strconv.FormatUint(uint64(x), 10)
	case Millis:
		return int64(x)
	case Record:
		fields := plainFields(reflect.ValueOf(x))
		fields["kind"] = x.kind()
		return fields
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return plain(v.Elem())
	case reflect.Uint64:
		return strconv.FormatUint(v.Uint(), 10)
	case reflect.Array, reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			data := make([]byte, v.Len())
			reflect.Copy(reflect.ValueOf(data), v)
			return hex.EncodeToString(data)
		}
		list := []any{}
		for i := range v.Len() {
			list = append(list, plain(v.Index(i)))
		}
		return list
	case reflect.Struct:
		return plainFields(v)
	}
	return v.Interface()
}

func plainFields(v reflect.Value) map[string]any {
	fields := make(map[string]any)
	for i := range v.NumField() {
		var name []rune
		for j, c := range v.Type().Field(i).Name {
			if unicode.IsUpper(c) && j > 0 && unicode.IsLower(rune(v.Type().Field(i).Name[j-1])) {
				name = append(name, '_')
			}
			name = append(name, unicode.ToLower(c))
		}
		fields[string(name)] = plain(v.Field(i))
	}
	return fields
}

func plainJSON(v any) json.RawMessage {
	b, err := json.Marshal(plain(reflect.ValueOf(v)))
	if err != nil {
		panic(err)
	}
	return b
}

// sameJSON compares by value, so that the file's white space and order of fields are free.
func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// TestVectors checks what spec/vectors/types.json says, by the file's own values; with -update
// it draws them anew.
func TestVectors(t *testing.T) {
	if *update {
		b, err := json.MarshalIndent(drawVectors(t), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(vectorFile, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	var have vectors
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&have); err != nil {
		t.Fatal(err)
	}
	g, err := ParseGenesis(have.Genesis.JSON)
	if err != nil || hex.EncodeToString(g.Encode()) != have.Genesis.Encoding || g.ChainID() != have.Genesis.Chain {
		t.Fatalf("genesis: %v", err)
	}
	seen := map[string]bool{}
	for i, v := range have.Values {
		checkValue(t, i, v, have.Genesis.Chain)
		seen[v.Type] = true
	}
	for i, v := range have.Refused {
		data, _ := hex.DecodeString(v.Encoding)
		if _, err := codecNamed(v.Type).decode(data); kindOf(err) != v.Kind {
			t.Errorf("refused[%d]: %s: want %s, have %v", i, v.Type, v.Kind, err)
		}
		seen[v.Type+v.Kind] = true
	}
	for _, c := range codecs {
		if !seen[c.name] || !seen[c.name+Truncated.String()] || !seen[c.name+Trailing.String()] {
			t.Errorf("%s has no vectors", c.name)
		}
	}
	for _, v := range have.Amounts {
		if a, err := ParseAmount(v.Text); err != nil || strconv.FormatUint(uint64(a), 10) != v.Units || a.String() != v.Written {
			t.Errorf("amount %q: %d, %s, %v", v.Text, a, a, err)
		}
	}
	for _, s := range have.NotRead {
		if a, err := ParseAmount(s); err == nil {
			t.Errorf("amount %q: read as %d", s, a)
		}
	}
	again := drawVectors(t)
	if !reflect.DeepEqual(have.Tags, again.Tags) {
		t.Error("tags")
	}
	if len(have.Leaves) != len(again.Leaves) || len(have.Digests) != len(again.Digests) {
		t.Fatal("leaves or digests are missing")
	}
	for i := range again.Leaves {
		if !sameJSON(have.Leaves[i].Fields, again.Leaves[i].Fields) || have.Leaves[i].Hash != again.Leaves[i].Hash || have.Leaves[i].Branch != again.Leaves[i].Branch || have.Leaves[i].Leaf != again.Leaves[i].Leaf {
			t.Errorf("leaves[%d]", i)
		}
	}
	for i, v := range again.Digests {
		if h := have.Digests[i]; !sameJSON(h.Record, v.Record) || !sameJSON(h.Input, v.Input) || h.Digest != v.Digest || h.Payout != v.Payout || h.Height != v.Height {
			t.Errorf("digests[%d]", i)
		}
	}
}

func checkValue(t *testing.T, i int, v valueVector, chain Hash) {
	c := codecNamed(v.Type)
	data, err := hex.DecodeString(v.Encoding)
	if err != nil {
		t.Fatal(err)
	}
	back, err := c.decode(data)
	if err != nil {
		t.Errorf("values[%d]: %s: %v", i, v.Type, err)
		return
	}
	if !bytes.Equal(c.encode(back), data) || !sameJSON(plainJSON(back), v.Fields) {
		t.Errorf("values[%d]: %s: fields %s", i, v.Type, plainJSON(back))
	}
	if c.id != nil && (v.ID == nil || *v.ID != c.id(chain, back)) {
		t.Errorf("values[%d]: %s: id %s", i, v.Type, c.id(chain, back))
	}
}

func kindOf(err error) string {
	var d *DecodeError
	if errors.As(err, &d) {
		return d.Kind.String()
	}
	return fmt.Sprint(err)
}

func drawVectors(t testing.TB) (v vectors) {
	v.About = "Charter, package types (spec/encoding.md). Each value of `values` has its fields, its one encoding and, where it has one, its id on the chain of `genesis`: " +
		"of a snapshot its root, of output, peer and name states the leaf of their tree, of a signed vote what is signed. Fields of eight bytes and amounts (in units) are decimal strings, times are numbers, " +
		"bytes hexadecimal. Each encoding of `refused` is refused, with this kind. `leaves` are of lock trees, each with the branch of itself and the leaf before it (the first: of itself twice). " +
		"`digests` are what a peer signs in a register peer record, and the source of its payout at a height. Made by: go test ./types -run Vectors -update"
	g := genesis()
	chain := g.ChainID()
	v.Genesis = genesisVector{g.JSON(), hex.EncodeToString(g.Encode()), chain}
	for _, c := range codecs {
		for seed := range uint64(4) {
			value := c.draw(newDraw(seed))
			if seed == 0 { // with every part there
				value, _ = c.decode(full(t, c.name))
			}
			data := c.encode(value)
			x := valueVector{Type: c.name, Fields: plainJSON(value), Encoding: hex.EncodeToString(data)}
			if c.id != nil {
				id := c.id(chain, value)
				x.ID = &id
			}
			v.Values = append(v.Values, x)
		}
		v.Refused = append(v.Refused, refusals(t, c)...)
	}
	for _, s := range []string{"0", "1", "12.5", "0.10", "007", "0.00000001", "92233720368.54775807"} {
		a, _ := ParseAmount(s)
		v.Amounts = append(v.Amounts, amountVector{s, strconv.FormatUint(uint64(a), 10), a.String()})
	}
	v.NotRead = strings.Split(",.,1.,.5,-1,+1,1e3,1_000, 1,1 ,0x1,1.2.3,0.000000001,92233720368.54775808", ",")
	for _, tag := range []string{"charter/genesis", "charter/transaction", "charter/checkpoint vote"} {
		for _, data := range []string{"", "00", "0102030405"} {
			b, _ := hex.DecodeString(data)
			v.Tags = append(v.Tags, tagVector{tag, data, NewTag(tag).Hash(b)})
		}
	}
	r := newDraw(9)
	before := Hash{}
	for i := range 5 {
		l := r.leaf()
		e := NewEncoder(nil)
		l.encode(e)
		if i == 0 {
			before = l.Hash()
		}
		v.Leaves = append(v.Leaves, leafVector{plainJSON(l), hex.EncodeToString(e.Data()), l.Hash(), BranchHash(before, l.Hash())})
		before = l.Hash()
	}
	for range 2 {
		p, in, h := r.registerPeer(), r.input(), r.height()
		v.Digests = append(v.Digests, digestVector{
			plainJSON(p), plainJSON(in), p.Digest(chain, in), strconv.FormatUint(h, 10), PayoutID(chain, h, p.Peer),
		})
	}
	return v
}

// refusals are the full value of a type cut off, continued, and spoilt at one place each.
func refusals(t testing.TB, c codec) (out []refusedVector) {
	refuse := func(bad []byte) {
		_, err := c.decode(bad)
		out = append(out, refusedVector{c.name, hex.EncodeToString(bad), kindOf(err)})
	}
	data := full(t, c.name)
	refuse(data[:1])
	refuse(data[:len(data)-1])
	refuse(append(bytes.Clone(data), 0))
	for _, row := range spoils(t) {
		if row.codec == c.name {
			refuse(row.data(t))
		}
	}
	return out
}
