package compress

// MaxActive is how many answers are compressed at once.
const MaxActive = maxActive

// Choose is choose.
func Choose(accept string, algorithms []string) string { return choose(accept, algorithms) }

// Active returns how many answers are being compressed.
func (p *Policy) Active() int { return int(p.active.Load()) }
