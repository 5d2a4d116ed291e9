package certs

// Look is what Run does every two seconds.
func (s *Store) Look() { s.look() }
