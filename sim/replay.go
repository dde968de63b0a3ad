package sim

import (
	"charter/types"
)

func (w *world) replay(n *node) error { _ = types.Hash{}; return nil }
