package agent

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/mod/sumdb/note"

	"charter/chain"
	"charter/sig"
	"charter/types"
)

// The public log (spec/log.md): the history of checkpoints as a transparency log that standard tools follow.
//
//	GET /log/checkpoint              its head, as a signed note       c2sp.org/tlog-checkpoint
//	GET /log/tile/<L>/<N>[.p/<W>]    hashes of its tree               c2sp.org/tlog-tiles
//	GET /log/tile/entries/<N>[.p/<W>]  ids of checkpoints             c2sp.org/tlog-tiles
//	GET /log/key                     by which key this peer signs it
const logPath = "/log/"

// tileWidth is how many hashes or entries a full tile has.
const tileWidth = 256

var (
	tagLogSeed = types.NewTag("charter/log seed")
	tagLogKey  = types.NewTag("charter/log key")
)

// publicLog signs the head of the history.
type publicLog struct {
	note.Verifier
	key    ed25519.PrivateKey
	told   []byte // of /log/key
	origin string
}

// Sign makes a publicLog a note.Signer.
func (l *publicLog) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(l.key, msg), nil }

// LogOrigin names the public log of a chain.
func LogOrigin(g *types.Genesis) string {
	return "charter/" + g.Network + "/" + g.ChainID().String()[:16]
}

// newLog derives a peer's log key (spec/log.md, "Key").
func newLog(g *types.Genesis, peer sig.PrivateKey) *publicLog {
	id := g.ChainID()
	secret := sig.Sign(peer, tagLogSeed.Hash(id[:])) // made for nothing else, and never leaves
	seed, err := hkdf.Key(sha256.New, secret[:], nil, "charter/log seed", ed25519.SeedSize)
	if err != nil {
		panic(fmt.Sprintf("log: 32 bytes by HKDF: %v", err))
	}
	l := &publicLog{key: ed25519.NewKeyFromSeed(seed), origin: LogOrigin(g)}
	public := l.key.Public().(ed25519.PublicKey)
	text, err := note.NewEd25519VerifierKey(l.origin, public)
	if err == nil {
		l.Verifier, err = note.NewVerifier(text)
	}
	if err != nil {
		panic(fmt.Sprintf("log: key of %q: %v", l.origin, err)) // a network's name has no space and no +
	}
	l.told = fmt.Appendf(nil, "%s\n%s\n%s\n", text, peer.Public(), sig.Sign(peer, LogKeyDigest(id, public)))
	return l
}

// LogKeyDigest is what a peer signs, BIP-340, to say that it signs the public log by this Ed25519 key.
func LogKeyDigest(chain types.Hash, public ed25519.PublicKey) types.Hash {
	return tagLogKey.Hash(chain[:], public)
}

// head is the newest certified head of the history as a signed note.
func (l *publicLog) head(c Chain) ([]byte, error) {
	at, err := c.Checkpoint(chain.Newest)
	if err != nil {
		return nil, err
	}
	cp := at.Checkpoint
	text := fmt.Sprintf("%s\n%d\n%s\ncharter checkpoint %d %s\n", l.origin, cp.HistorySize, base64.StdEncoding.EncodeToString(cp.HistoryRoot[:]), cp.Height, cp.ID())
	return note.Sign(&note.Note{Text: text}, l)
}

// LogHandler is what to mount for the public log, and at which path, beside Handler.
func (a *Agent) LogHandler() (path string, handler http.Handler) {
	return logPath, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, kind, err := a.publicLog(r)
		if err != nil {
			err = a.wire(logPath, err)
			a.meter.answered(logPath, code(err))
			status := map[connect.Code]int{
				connect.CodeInvalidArgument: http.StatusBadRequest, connect.CodeNotFound: http.StatusNotFound,
				connect.CodeResourceExhausted: http.StatusTooManyRequests, connect.CodeUnavailable: http.StatusServiceUnavailable,
			}[connect.CodeOf(err)]
			if status == 0 {
				status = http.StatusInternalServerError
			}
			http.Error(w, err.Error(), status)
			return
		}
		a.meter.answered(logPath, code(nil))
		w.Header().Set("Content-Type", kind.contentType)
		w.Header().Set("Cache-Control", kind.cache)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		if r.Method != http.MethodHead {
			_, _ = w.Write(body) // who went away needs no answer
		}
	})
}

// logKind is how an answer is to be read and kept.
type logKind struct{ contentType, cache string }

var (
	logText = logKind{"text/plain; charset=utf-8", "no-cache"}
	logTile = logKind{"application/octet-stream", "public, max-age=31536000, immutable"} // also partial ones: a width is in the name
)

// publicLog answers one request for the public log.
func (a *Agent) publicLog(r *http.Request) ([]byte, logKind, error) {
	if err := a.clients.requests(r.RemoteAddr, 1, time.Now()); err != nil {
		return nil, logKind{}, err
	}
	select {
	case a.calls <- struct{}{}:
		defer func() { <-a.calls }()
	default:
		return nil, logKind{}, refuse(Busy, "the agent answers %d calls already; try again", a.limits.Calls)
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil, logKind{}, refuse(BadRequest, "the log is read by GET, not %s", r.Method)
	}
	what := strings.TrimPrefix(r.URL.Path, logPath)
	switch {
	case a.public == nil:
		return nil, logKind{}, refuse(NotFound, "this agent serves no public log")
	case what == "key":
		return a.public.told, logText, nil
	case what == "checkpoint":
		head, err := a.public.head(a.chain)
		return head, logText, err
	}
	t, ok := parseTile(what)
	if !ok {
		return nil, logKind{}, refuse(NotFound, "there is no such thing in the log: want checkpoint, key, tile/<L>/<N>[.p/<W>] or tile/entries/<N>[.p/<W>]")
	}
	body, err := t.read(a.chain)
	return body, logTile, err
}

// tile is a row of at most 256 nodes of the history's tree, or of its entries.
type tile struct {
	entries bool
	level   uint8 // of the nodes
	first   uint64
	width   int
}

// parseTile reads the path of a tile (c2sp.org/tlog-tiles, "Merkle Tree"): its number in groups of three digits, all but the last
// behind an x; and the width of a partial one, 1 to 255.
func parseTile(path string) (t tile, ok bool) {
	parts := strings.Split(path, "/")
	if len(parts) < 3 || parts[0] != "tile" {
		return t, false
	}
	if t.entries = parts[1] == "entries"; !t.entries {
		level, ok := decimal(parts[1], 63/8)
		if !ok {
			return t, false
		}
		t.level = uint8(8 * level)
	}
	parts, t.width = parts[2:], tileWidth
	if n := len(parts); n > 1 && strings.HasSuffix(parts[n-2], ".p") {
		width, ok := decimal(parts[n-1], tileWidth-1)
		if !ok || width == 0 {
			return t, false
		}
		parts, t.width = append(parts[:n-2:n-2], strings.TrimSuffix(parts[n-2], ".p")), int(width)
	}
	number := uint64(0)
	for i, p := range parts {
		digits, x := strings.CutPrefix(p, "x")
		group, ok := decimal(strings.TrimLeft(digits[:max(0, len(digits)-1)], "0")+digits[max(0, len(digits)-1):], 999)
		if len(digits) != 3 || x != (i < len(parts)-1) || !ok || i == 0 && x && group == 0 || number > types.MaxHeight/1000 {
			return t, false
		}
		number = 1000*number + group
	}
	t.first = tileWidth * number
	return t, number <= types.MaxHeight/tileWidth
}

// decimal reads a number without sign and leading zeros, at most max.
func decimal(s string, max uint64) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && n <= max && strconv.FormatUint(n, 10) == s
}

// read makes the tile's bytes: hashes end to end, or entries, each behind its length in two bytes.
func (t tile) read(c Chain) (out []byte, err error) {
	if t.entries {
		ids, err := c.HistoryEntries(t.first, t.width)
		for _, id := range ids {
			out = append(binary.BigEndian.AppendUint16(out, uint16(len(id))), id[:]...)
		}
		return out, err
	}
	hashes, err := c.HistoryNodes(t.level, t.first, t.width)
	for _, h := range hashes {
		out = append(out, h[:]...)
	}
	return out, err
}
