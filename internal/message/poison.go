//go:build !race

package message

// poison has ended arenas overwritten and never used again.
const poison = false
