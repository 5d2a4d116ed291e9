package h2

// Settled reports whether no request runs and all that was received has been
// given back to the clients once.
func (s *Server) Settled() bool {
	for _, c := range s.all() {
		c.mu.Lock()
		settled := c.running == 0 && c.wide == 0 && c.recvWindow+c.unacked == s.window()
		c.mu.Unlock()
		if !settled {
			return false
		}
	}
	return true
}

// MaxConns is how many connections a client opens.
const MaxConns = maxConns

// Conns returns how many connections there are.
func (s *Server) Conns() int { return len(s.all()) }

// StallTimeout is how long a stream waits for a window.
const StallTimeout = stallTimeout

// WriteTimeout is how long one write may take.
const WriteTimeout = writeTimeout
