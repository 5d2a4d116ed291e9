package admin

// Config says where edgectl reaches the daemon.
type Config struct {
	Socket string `json:"socket,omitempty" yaml:"socket"` // path of the unix socket; default /run/edged/edged.sock
}
