//go:build !unix

package sim

import "time"

// cpuTime is zero: here the time of a campaign is that of the clock.
func cpuTime() time.Duration { return 0 }
