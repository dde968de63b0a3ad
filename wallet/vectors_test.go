package wallet

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"charter/types"
)

var update = flag.Bool("update", false, "write spec/vectors/wallet.json anew")

const vectorsFile = "../spec/vectors/wallet.json"

type hexBytes []byte

func (b hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(b)), nil }

type (
	vectors struct {
		About     string          `json:"about"`
		Keys      []keyVector     `json:"keys"`
		Addresses []addressVector `json:"addresses"`
		Refused   []refusedVector `json:"refused_addresses"`
		Payments  []paymentVector `json:"payments"`
	}
	keyVector struct {
		Entropy hexBytes  `json:"entropy"`
		Words   string    `json:"words"`
		Seed    hexBytes  `json:"seed"`
		Path    string    `json:"path"`
		Lock    types.Key `json:"lock"`
	}
	addressVector struct {
		Chain   types.Hash `json:"chain"`
		Lock    types.Key  `json:"lock"`
		Host    types.Key  `json:"host"`
		Address string     `json:"address"`
	}
	refusedVector struct {
		Chain    types.Hash `json:"chain"`
		Address  string     `json:"address"`
		Why      string     `json:"why"`
		Position int        `json:"position"`
	}
	paymentVector struct {
		Comment    string       `json:"comment"`
		Chain      types.Hash   `json:"chain"`
		FeePerByte types.Amount `json:"min_fee_per_byte"`
		Words      string       `json:"words"`
		Host       types.Key    `json:"host"`
		Coins      []coinVector `json:"coins"`
		To         string       `json:"to"`
		Amount     types.Amount `json:"amount"`
		Salt       hexBytes     `json:"salt"`
		From       types.Millis `json:"valid_from_ms"`
		Until      types.Millis `json:"valid_until_ms"`
		Chosen     []uint64     `json:"chosen_positions"`
		Fee        types.Amount `json:"fee"`
		ID         types.Hash   `json:"id"`
		Encoding   hexBytes     `json:"encoding"`
		Wallet     hexBytes     `json:"wallet"` // its encoding, after
	}
	coinVector struct {
		Position uint64       `json:"position"`
		Index    uint32       `json:"receive_index"`
		Value    types.Amount `json:"value"`
		Source   types.Hash   `json:"source"`
	}
)

func drawVectors() *vectors {
	v := &vectors{About: "spec/wallet.md: keys from words, addresses, and payments. Amounts are in shares. Signatures have no auxiliary randomness. A coin is output number receive_index of its source."}
	for _, name := range []string{"ann", "bob"} {
		entropy := testEntropy(name)
		words := Mnemonic(entropy)
		keys := NewKeys(entropy, 0)
		for _, k := range []struct {
			path  string
			p     Purpose
			index uint32
		}{{"m/25448'/0'/0'/0'", Identity, 0}, {"m/25448'/0'/1'/0'", Receive, 0}, {"m/25448'/0'/1'/7'", Receive, 7}, {"m/25448'/0'/2'/0'", Change, 0}} {
			v.Keys = append(v.Keys, keyVector{entropy[:], words, bip39Seed(words, ""), k.path, keys.Lock(k.p, k.index)})
		}
		for _, a := range []Address{testAddress(name), {Lock: keys.Lock(Receive, 0)}} {
			v.Addresses = append(v.Addresses, addressVector{testChain, a.Lock, a.Host, a.Text(testChain)})
		}
	}
	text := v.Addresses[0].Address
	for _, r := range []refusedVector{
		{testChain, text[:40] + "q" + text[41:], "one character is wrong", 0},
		{testChain, text[:40] + "b" + text[41:], "a character that no address has", 0},
		{testChain, text[:40] + text[41:], "a character is missing", 0},
		{types.Hash{1}, text, "of another network", 0},
		{testChain, rawAddress("ch", bytes.Repeat([]byte{1}, 68), false), "bech32, not bech32m", 0},
	} {
		_, err := ParseAddress(r.Chain, r.Address)
		r.Position = err.(*Error).Position
		v.Refused = append(v.Refused, r)
	}
	v.Payments = []paymentVector{
		drawPayment("the smallest coin that suffices, with change", 2*share, 9*share, 3*share, share),
		drawPayment("two coins: the largest, and the smallest that suffices with it", 11*share, 9*share, 3*share, 3*share, share),
		drawPayment("what is left is worth less than it costs to spend: it goes to the fee", share-450, share, share/2),
	}
	return v
}

func drawPayment(comment string, amount types.Amount, coins ...types.Amount) paymentVector {
	v := New(testChain, &types.LocalParams, testEntropy("ann"), 0)
	peer := testPriv("peer").Public()
	if err := v.SetAgent(Agent{Peer: peer}); err != nil {
		panic(err)
	}
	p := paymentVector{
		Comment: comment, Chain: testChain, FeePerByte: types.LocalParams.MinFeePerByte, Words: v.Words(), Host: peer,
		To: testAddress("bob").Text(testChain), Amount: amount, Salt: bytes.Repeat([]byte{7}, 16), From: 0, Until: 1_000_000,
	}
	for i, value := range coins {
		c := coinVector{uint64(100 + i), uint32(i), value, types.Hash{1, byte(i)}}
		s := types.OutputState{Output: types.Output{Value: value, Lock: must(v.Receive()).Lock, Host: peer}, Source: c.Source, Index: uint32(i)}
		if err := v.Found(Finding{Position: c.Position, State: s}); err != nil {
			panic(err)
		}
		p.Coins = append(p.Coins, c)
	}
	terms := Terms{Intent: "vector", ValidFrom: p.From, ValidUntil: p.Until}
	copy(terms.Salt[:], p.Salt)
	paid := must(v.Pay(terms, must(ParseAddress(testChain, p.To)), amount))
	for _, in := range paid.Tx.Inputs {
		p.Chosen = append(p.Chosen, in.Position)
	}
	p.Fee, p.ID, p.Encoding = paid.Tx.Fee, paid.ID, paid.Raw
	p.Wallet = v.Encode()
	return p
}

// TestVectors holds the package to spec/vectors/wallet.json.
func TestVectors(t *testing.T) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	check(t, e.Encode(drawVectors()))
	if *update {
		check(t, os.WriteFile(vectorsFile, b.Bytes(), 0o644))
	}
	golden, err := os.ReadFile(vectorsFile)
	check(t, err)
	if !bytes.Equal(golden, b.Bytes()) {
		t.Error("spec/vectors/wallet.json is not what this code makes: if the change is meant, go test ./wallet -run Vectors -update")
	}
}
