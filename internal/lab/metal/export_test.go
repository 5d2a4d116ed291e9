package metal

import "context"

// Lacks says why Up would still wait.
func (l *Lab) Lacks(ctx context.Context) string { return l.lacks(ctx) }

// LacksRoutes says what the routers lack.
func (l *Lab) LacksRoutes() string { return l.lacksRoutes() }
