package discover

import "anyedge/proxy/upstream"

// Parse is what reads a file's text.
func Parse(text []byte) ([]upstream.BackendConfig, error) { return parse(text) }
