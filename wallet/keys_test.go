package wallet

import (
	"crypto/hmac"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/btcutil/v2/hdkeychain"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/tyler-smith/go-bip39"
	"github.com/tyler-smith/go-bip39/wordlists"

	"charter/sig"
)

func TestWordList(t *testing.T) {
	if strings.Join(wordList, " ") != strings.Join(wordlists.English, " ") || len(wordList) != 2048 {
		t.Fatal("english.txt is not the list of BIP-39")
	}
}

// Vectors of BIP-39 for 256 bits, all with the passphrase TREZOR.
var bip39Vectors = [][3]string{
	{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon art",
		"bda85446c68413707090a52022edd26a1c9462295029f2e60cd7c4f2bbd3097170af7a4d73245cafa9c3cca8d561a7c3de6f5d4a10be8ed2a5e608d68f92fcc8",
	},
	{
		"7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f",
		"legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth title",
		"bc09fca1804f7e69da93c2f2028eb238c227f2e9dda30cd63699232578480a4021b146ad717fbb7e451ce9eb835f43620bf5c514db0f8add49f5d121449d3e87",
	},
	{
		"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
		"zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo vote",
		"dd48c104698c30cfe2b6142103248622fb7bb0ff692eebb00089b32d22484e1613912f0a5b694407be899ffd31ed3992c456cdf60f5d4564b8ba3f05a69890ad",
	},
	{
		"3e141609b97933b66a060dcddc71fad1d91677db872031e85f4c015c5e7e8982",
		"dignity pass list indicate nasty swamp pool script soccer toe leaf photo multiply desk host tomato cradle drill spread actor shine dismiss champion exotic",
		"ff7f3184df8696d8bef94b6c03114dbee0ef89ff938712301d27ed8336ca89ef9635da20af07d4175f2bf5f3de130f39c9d9e8dd0472489c19b1a020a940da67",
	},
}

func TestMnemonicVectors(t *testing.T) {
	for _, v := range bip39Vectors {
		entropy := [32]byte(must(hex.DecodeString(v[0])))
		if got := Mnemonic(entropy); got != v[1] {
			t.Errorf("%s gives %q", v[0], got)
		}
		if got, err := ParseMnemonic(strings.ToUpper(strings.ReplaceAll(v[1], " ", "\n\t"))); err != nil || got != entropy {
			t.Errorf("%q gives %x, %v", v[1], got, err)
		}
		if got := hex.EncodeToString(bip39Seed(v[1], "TREZOR")); got != v[2] {
			t.Errorf("%q gives seed %s", v[1], got)
		}
	}
}

// Our words against another's, for random entropies and random sentences.
func TestMnemonicTwin(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var entropy [32]byte
		for i := range entropy {
			entropy[i] = byte(rng.Uint32())
		}
		words := Mnemonic(entropy)
		if other := must(bip39.NewMnemonic(entropy[:])); words != other {
			t.Fatalf("%x: %q, the other says %q", entropy, words, other)
		}
		fields := strings.Fields(words)
		fields[rng.IntN(Words)] = wordList[rng.IntN(len(wordList))]
		words = strings.Join(fields, " ")
		if _, err := ParseMnemonic(words); (err == nil) != bip39.IsMnemonicValid(words) || err != nil && !IsKind(err, WordChecksum) {
			t.Fatalf("%q: %v, and the other says valid: %v", words, err, bip39.IsMnemonicValid(words))
		}
	}
}

func TestNearestWord(t *testing.T) {
	for slip, want := range map[string]string{
		"abandn": "abandon", "abnadon": "abandon", "zooo": "zoo", "wittness": "witness", "acheive": "achieve", "recieve": "receive",
	} {
		if got := nearestWord(slip); got != want {
			t.Errorf("%q is nearest to %q, want %q", slip, got, want)
		}
	}
	for i := 0; i < len(wordList); i += 50 {
		w := wordList[i]
		if got := nearestWord(w + "s"); distance(w+"s", got) > 1 {
			t.Errorf("%q is nearest to %q", w+"s", got)
		}
	}
	nearestWord("")
	nearestWord(strings.Repeat("x", 1<<20))
}

// hardened is BIP-32's private hardened step by hand.
func hardened(key, code []byte, index uint32) ([]byte, []byte) {
	mac := hmac.New(sha512.New, code)
	mac.Write([]byte{0})
	mac.Write(key)
	mac.Write(binary.BigEndian.AppendUint32(nil, index|1<<31))
	sum := mac.Sum(nil)
	order, _ := new(big.Int).SetString("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16)
	k := new(big.Int).Add(new(big.Int).SetBytes(sum[:32]), new(big.Int).SetBytes(key))
	return k.Mod(k, order).FillBytes(make([]byte, 32)), sum[32:]
}

func byHand(seed []byte, path ...uint32) []byte {
	mac := hmac.New(sha512.New, []byte("Bitcoin seed"))
	mac.Write(seed)
	sum := mac.Sum(nil)
	key, code := sum[:32], sum[32:]
	for _, index := range path {
		key, code = hardened(key, code, index)
	}
	return key
}

// Test vectors 3 and 4 of BIP-32 have leading zeros; our way through the library and the
// twin by hand give their keys.
func TestBIP32Vectors(t *testing.T) {
	for _, v := range []struct {
		seed, xprv string
		path       []uint32
	}{
		{
			"4b381541583be4423346c643850da4b320e46a87ae3d2a4e6da11eba819cd4acba45d239319ac14f863b8d5ab5a0d0c64d2e8a1e7d1457df2e5a3c51c73235be",
			"xprv9uPDJpEQgRQfDcW7BkF7eTya6RPxXeJCqCJGHuCJ4GiRVLzkTXBAJMu2qaMWPrS7AANYqdq6vcBcBUdJCVVFceUvJFjaPdGZ2y9WACViL4L", []uint32{0},
		},
		{
			"3ddd5602285899a946114506157c7997e5444528f3003f6134712147db19b678",
			"xprv9xJocDuwtYCMNAo3Zw76WENQeAS6WGXQ55RCy7tDJ8oALr4FWkuVoHJeHVAcAqiZLE7Je3vZJHxspZdFHfnBEjHqU5hG1Jaj32dVoS6XLT1", []uint32{0, 1},
		},
	} {
		seed := must(hex.DecodeString(v.seed))
		node := must(hdkeychain.NewMaster(seed, &chaincfg.MainNetParams))
		for _, index := range v.path {
			node = child(node, index)
		}
		if node.String() != v.xprv {
			t.Errorf("%v of %s gives %s", v.path, v.seed, node)
		}
		if key := must(node.ECPrivKey()).Serialize(); string(key) != string(byHand(seed, v.path...)) {
			t.Errorf("%v of %s by hand gives another key", v.path, v.seed)
		}
	}
}

func TestKeysTwin(t *testing.T) {
	for account := range uint32(3) {
		entropy := testEntropy("twin")
		keys, seed := NewKeys(entropy, account), bip39.NewSeed(Mnemonic(entropy), "")
		for p := range purposes {
			for _, index := range []uint32{0, 1, 7, 1000, MaxIndex} {
				want := must(sig.ParsePrivateKey([32]byte(byHand(seed, 25448, account, uint32(p), index))))
				if keys.Lock(p, index) != want.Public() {
					t.Errorf("m/25448'/%d'/%d'/%d' is another key by hand", account, p, index)
				}
			}
		}
	}
}

func BenchmarkNewKeys(b *testing.B) {
	for b.Loop() {
		NewKeys([32]byte{1}, 0)
	}
}

func BenchmarkLock(b *testing.B) {
	k := NewKeys([32]byte{1}, 0)
	for b.Loop() {
		k.Lock(Receive, 5)
	}
}
