package lab

// WriteLayout writes the configuration files of a demo in dir and returns what
// demo.json says of its geos.
func WriteLayout(dir string) ([]FileGeo, error) {
	l, err := newLayout(dir, false)
	if err != nil {
		return nil, err
	}
	var out []FileGeo
	for i := range l.Geos {
		g := &l.Geos[i]
		g.Public = g.Fabric // no links between them
		g.Backends = []backendLayout{{Name: "app", URL: "http://127.0.0.1:3000"}}
		out = append(out, g.file(0))
	}
	return out, l.write()
}
