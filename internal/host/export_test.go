package host

// What is on the wire is tested for itself.
var (
	ArpProbe           = arpProbe
	ParseARP           = parseARP
	Solicitation       = solicitation
	ParseAdvertisement = parseAdvertisement
	Checksum6          = checksum6
)
