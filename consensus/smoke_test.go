package consensus

import (
	"fmt"
	"testing"

	"charter/types"
)

func smokeConfig(n int, self int) Config {
	s := &types.Snapshot{}
	for i := range n {
		s.Members = append(s.Members, types.Member{Peer: types.Key{byte(i + 1)}, Shares: 1000})
	}
	p := types.LocalParams
	cfg := Config{Chain: types.Hash{9}, Params: p, Genesis: s, Time: 1000,
		VRF:       func(types.Key, []byte, types.VRFProof) error { return nil },
		VRFOutput: func(p types.VRFProof) types.Hash { return types.Hash(p[:32]) },
	}
	if self >= 0 {
		cfg.Self = types.Key{byte(self + 1)}
	}
	return cfg
}

func TestSmoke(t *testing.T) {
	const n = 4
	cores := make([]*Core, n)
	for i := range n {
		cores[i] = New(smokeConfig(n, i))
	}
	type msg struct {
		at types.Millis
		to int
		b  *types.Block
	}
	var queue []msg
	decided := make([][]string, n)
	for now := types.Millis(1000); now < 60000; now += 5 {
		for _, c := range cores {
			c.Step(Tick{now})
			c.Step(Waiting{true})
		}
		var rest []msg
		for _, m := range queue {
			if m.at <= now {
				cores[m.to].Step(Block{m.b})
			} else {
				rest = append(rest, m)
			}
		}
		queue = rest
		for i, c := range cores {
			for {
				r := c.Ready()
				for _, x := range r.Refused {
					t.Fatalf("refused %v", x.Err)
				}
				for _, d := range r.Decided {
					decided[i] = append(decided[i], fmt.Sprint(d.Height, d.Anchor.Short(), len(d.Blocks)))
					if d.Height%160 == 0 {
						c.Step(Snapshot{&types.Snapshot{Height: d.Height, Members: c.cfg.Genesis.Members}})
					}
				}
				c.Advance()
				if r.Build == nil {
					break
				}
				b := r.Build.Block(c.cfg.Self)
				if r.Build.VRF != nil {
					b.VRF[0], b.VRF[1] = 1, byte(i)
				}
				c.Step(Block{b})
				for j := range n {
					if j != i {
						queue = append(queue, msg{now + 10, j, b})
					}
				}
			}
		}
	}
	for i, c := range cores {
		t.Log(i, c.Height(), c.Decided(), len(decided[i]), len(c.vertices), c.floor, c.all.dec.run.Run, c.openPayload)
	}
	t.Log(decided[0][:20])
	for i := range decided[0] {
		if i < len(decided[1]) && decided[0][i] != decided[1][i] {
			t.Fatal("differ", i, decided[0][i], decided[1][i])
		}
	}
}
