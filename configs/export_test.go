package configs

import "slices"

// Later returns the paths of fields that this version does not have.
func Later() []string { return slices.Clone(later) }
