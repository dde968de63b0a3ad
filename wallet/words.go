package wallet

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	_ "embed"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
)

// The English list of BIP-39: 2,048 words, sorted, no two alike in their first four letters.
//
//go:embed english.txt
var english string

var wordList = strings.Fields(english)

// Words is how many words stand for a wallet.
const Words = 24

const bitsPerWord = 11

// Mnemonic is the twenty-four words of BIP-39 that stand for 32 bytes of entropy: its 256
// bits and 8 bits of checksum, eleven bits a word.
func Mnemonic(entropy [32]byte) string {
	sum := sha256.Sum256(entropy[:])
	bits := append(entropy[:], sum[0])
	words := make([]string, Words)
	for i := range words {
		words[i] = wordList[bitsAt(bits, i*bitsPerWord)]
	}
	return strings.Join(words, " ")
}

// bitsAt is the eleven bits from bit at on.
func bitsAt(b []byte, at int) int {
	var window [4]byte
	copy(window[:], b[at/8:])
	return int(binary.BigEndian.Uint32(window[:])>>(32-bitsPerWord-at%8)) & (len(wordList) - 1)
}

// ParseMnemonic is the entropy that twenty-four words stand for, in any case, with any
// white space between. Errors: WordCount, UnknownWord with the word's position and the
// nearest one, WordChecksum.
func ParseMnemonic(text string) (entropy [32]byte, err error) {
	words := strings.Fields(strings.ToLower(text))
	if len(words) != Words {
		return entropy, refuse(WordCount, "a wallet is restored from %d words, and these are %d", Words, len(words))
	}
	var bits [33]byte
	for i, word := range words {
		n, ok := slices.BinarySearch(wordList, word)
		if !ok {
			return entropy, refuseAt(UnknownWord, i+1, "word %d, %.20q, is not in the list; the nearest is %q", i+1, word, nearestWord(word))
		}
		for b := range bitsPerWord {
			if n>>(bitsPerWord-1-b)&1 == 1 {
				at := i*bitsPerWord + b
				bits[at/8] |= 0x80 >> (at % 8)
			}
		}
	}
	copy(entropy[:], bits[:])
	if sum := sha256.Sum256(entropy[:]); sum[0] != bits[32] {
		return [32]byte{}, refuse(WordChecksum, "all are words of the list, but one is another than it was, or two changed places: the checksum is wrong")
	}
	return entropy, nil
}

// nearestWord is the first word of the list at the least distance from word.
func nearestWord(word string) string {
	if len(word) > 16 {
		word = word[:16] // no word is longer than eight, so what comes behind tells nothing
	}
	nearest, least := "", math.MaxInt
	for _, w := range wordList {
		if d := distance(word, w); d < least {
			nearest, least = w, d
		}
	}
	return nearest
}

// distance counts the letters to insert, delete, change, or swap with their neighbour, to
// make a into b (optimal string alignment).
func distance(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}

// bip39Seed is the 64 bytes from which BIP-32 starts. Charter's wallets have no BIP-39
// passphrase: it is there for the vectors of BIP-39.
func bip39Seed(mnemonic, passphrase string) []byte {
	seed, err := pbkdf2.Key(sha512.New, mnemonic, []byte("mnemonic"+passphrase), 2048, 64)
	if err != nil {
		panic(fmt.Sprintf("wallet: PBKDF2 with constant parameters: %v", err))
	}
	return seed
}
