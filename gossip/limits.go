package gossip

import (
	"time"

	"charter/types"

	"golang.org/x/time/rate"
)

// The kinds of messages. Those below 16 travel on a connection's ordered stream, the others
// are requests and their replies on streams of their own.
const (
	kindStatus uint8 = 1 // how high the sender is
	kindBlock  uint8 = 2 // a new block, with its payload
	kindVotes  uint8 = 3 // votes for checkpoints

	kindGetBlocks uint8 = 16 // blocks by id; reply: blocks
	kindGetRange  uint8 = 17 // blocks by height; reply: blocks
	kindTxs       uint8 = 18 // transactions for the next block; reply: results
	kindBlocks    uint8 = 32
	kindResults   uint8 = 33
)

// Greatest counts.
const (
	maxIDs     = 64   // per pull: the greatest round trip saved, and 2 kB
	maxVotes   = 64   // votes in a message: some heights' worth after a lull
	maxTxs     = 256  // transactions forwarded at once: what comes in during a round trip
	maxBatch   = 4096 // blocks in a reply: small ones, of a few hundred bytes, to fill a megabyte
	maxRefusal = 200  // bytes of text that say why a transaction is refused
)

// Greatest sizes in bytes.
const (
	// A header with all its merges, and every part that may be there.
	maxHeader = 1 + 8 + 32 + 32 + 32 + 2 + 32*types.MaxMerges + 32 + 8 + 1 + 97 + 32 + 4 + 32 + 1 + (8 + 32 + 64) + 64
	// A block with header and payload, each behind its length.
	maxBlock = 4 + maxHeader + 4 + types.MaxPayload
	// Three full blocks and some small ones: what a catching-up peer holds at a time.
	maxBlocks = 4 << 20
	// A block's worth of transactions.
	maxTxsSize = 1 << 20
)

// MessageLimits are the kinds of messages and their greatest lengths, for transport.Config.
var MessageLimits = map[uint8]int{
	kindStatus:    32,
	kindBlock:     maxBlock,
	kindVotes:     2 + maxVotes*types.SignedVoteSize,
	kindGetBlocks: 2 + maxIDs*32,
	kindGetRange:  8,
	kindTxs:       maxTxsSize,
	kindBlocks:    maxBlocks,
	kindResults:   2 + maxTxs*(1+2+maxRefusal),
}

// rates are how often the other side of a connection may send a kind: a second, and at once.
// What comes above is dropped and scored.
var rates = map[uint8]struct {
	perSecond rate.Limit
	burst     int
}{
	kindStatus:    {8, 16},      // one a second, and one at each connection
	kindBlock:     {1000, 2000}, // a height takes a message delay at least, 2 ms on one machine; bursts follow a heal
	kindVotes:     {1000, 2000}, // one a checkpoint, and there is one a height at most
	kindGetBlocks: {200, 400},   // one at a time, a round trip each
	kindGetRange:  {40, 80},     // one at a time, up to 4 MiB each: 160 MiB a second
	kindTxs:       {1000, 2000}, // one at a time, a round trip and a sync of the pool's log each
}

// Bounds of what is held.
const (
	queueMessages  = 1024     // messages waiting for a slow peer, which is 16 kB of pointers
	queueBytes     = 16 << 20 // and their bytes: four greatest replies; above, pushes are dropped
	forwardCount   = 4096     // transactions waiting for their host: 16 requests
	forwardBytes   = 8 << 20  // and their bytes
	maxWanted      = 8192     // blocks wanted in all: more are found by range
	maxWantedFrom  = 1024     // wanted because of one peer: one height of the greatest network
	seenBlocks     = 1 << 14  // ids remembered, so that a push is delivered once: 16 heights of the greatest network
	recentBlocks   = 4        // own blocks that a peer gets on connecting: those not yet final in the good case
	maxPeers       = 2 * types.MaxMembers
	maxPullRounds  = 8   // times that all peers are asked for a block before it is given up
	maxPushAhead   = 64  // heights above ours: a push from higher up is dropped, catching up brings it
	behindBy       = 16  // heights below the best peer from which catching up begins
	closeBy        = 2   // and at which it is over: as much as a status is old
	overlap        = 4   // heights below the own top from which a range is asked, or from the final one: what is not final in the good case
	maxUnsure      = 256 // heights that are asked for once more at most: what a cut of some minutes makes, at a height a WaitQuorum
	maxAsked       = 3   // peers asked for the same block at once, where the first ones do not answer
	clockStatuses  = 4   // statuses of which the quickest tells the other side's clock
	stuckStatuses  = 2   // statuses that show a peer above us with us unmoved, before we ask for what we miss
	overlongReason = 60  // bytes of a reason in a close: it is one word or two
)

// longDial is how long a handshake takes at most where nothing is lost, even across the internet.
const longDial = time.Second

// Scores. A peer's score falls by scoreDecay a second; at scoreLimit its connection closes
// and a back-off holds.
const (
	scoreLimit = 100
	scoreDecay = 1 // a second: who errs once a minute is never out

	scoreInvalid  = 100 // a block that breaks a rule: it should have checked
	scoreBreach   = 100 // a frame too long, unknown or cut off: the stream has lost its order
	scoreGarbage  = 60  // a message that does not decode: twice, in case one was a bug of ours
	scoreUnasked  = 60  // a reply with what was not asked for
	scoreShort    = 60  // claims to be higher than the blocks it gives
	scoreNoParent = 5   // sent a block and has not what it names, each
	scoreTimeout  = 2   // did not answer in time
	scoreRate     = 1   // a message above its rate, each
)

// Timing is how long gossip waits for what. Zero values mean those of DefaultTiming.
type Timing struct {
	Status  time.Duration // between statuses
	Request time.Duration // for a reply
	Hedge   time.Duration // for a reply to a pull, before somebody else is asked, too
	Range   time.Duration // for a range, of up to 4 MiB: 15 s is a link of 2 Mbit/s
	DialMin time.Duration // before the second attempt to dial; doubles from there
	DialMax time.Duration // between attempts in the end
	Stable  time.Duration // a connection that lived as long starts over at DialMin
	Ban     time.Duration // the first back-off; doubles from there
	BanMax  time.Duration // the longest
	Settle  time.Duration // for the chain to take in what it was given, when at the end of a range
	Doubt   time.Duration // a peer's height is not believed after its blocks led nowhere; doubles from there
}

// DefaultTiming suits peers on one machine and across the internet.
var DefaultTiming = Timing{
	Status: time.Second, Request: 5 * time.Second, Hedge: 500 * time.Millisecond, Range: 15 * time.Second,
	DialMin: 100 * time.Millisecond, DialMax: 10 * time.Second, Stable: 10 * time.Second,
	Ban: 30 * time.Second, BanMax: 10 * time.Minute,
	Settle: 3 * time.Second, Doubt: 10 * time.Second,
}

func (t Timing) orDefault() Timing {
	d := DefaultTiming
	for _, f := range []struct{ have, def *time.Duration }{
		{&t.Status, &d.Status}, {&t.Request, &d.Request}, {&t.Hedge, &d.Hedge}, {&t.Range, &d.Range}, {&t.DialMin, &d.DialMin}, {&t.DialMax, &d.DialMax}, {&t.Stable, &d.Stable},
		{&t.Ban, &d.Ban}, {&t.BanMax, &d.BanMax}, {&t.Settle, &d.Settle}, {&t.Doubt, &d.Doubt},
	} {
		if *f.have == 0 {
			*f.have = *f.def
		}
	}
	return t
}
