package configs

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"
)

// decode fills to from v. What does not fit stays zero: the schema has
// reported it. c is told what only the Go types know.
func decode(v *value, path string, to reflect.Value, c *check) {
	if to.Kind() == reflect.Pointer {
		to.Set(reflect.New(to.Type().Elem()))
		decode(v, path, to.Elem(), c)
		return
	}
	if to.Type() == reflect.TypeFor[time.Duration]() {
		if s, ok := v.scalar.(string); ok {
			if d, err := time.ParseDuration(s); err == nil {
				to.SetInt(int64(d))
			}
		}
		return
	}
	if t, ok := reflect.TypeAssert[encoding.TextUnmarshaler](to.Addr()); ok {
		if s, ok := v.scalar.(string); ok {
			_ = t.UnmarshalText([]byte(s)) // the schema's formats have reported it
		}
		return
	}
	switch to.Kind() {
	case reflect.Struct:
		decodeStruct(v, path, to, c)
	case reflect.Slice:
		decodeSlice(v, path, to, c)
	case reflect.Map:
		decodeMap(v, path, to, c)
	default:
		decodeScalar(v, path, to, c)
	}
}

func decodeStruct(v *value, path string, to reflect.Value, c *check) {
	for i := range to.NumField() {
		if f, ok := v.fields[jsonName(to.Type().Field(i))]; ok {
			decode(f, join(path, jsonName(to.Type().Field(i))), to.Field(i), c)
		}
	}
	if own, ok := reflect.TypeAssert[interface{ Validate() error }](to); ok && v.isMap() {
		if err := own.Validate(); err != nil {
			c.own = append(c.own, finding{path, err})
		}
	}
}

// jsonName returns the field's name in the file.
func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

func decodeSlice(v *value, path string, to reflect.Value, c *check) {
	if !v.list {
		return
	}
	to.Set(reflect.MakeSlice(to.Type(), len(v.items), len(v.items)))
	for i, item := range v.items {
		decode(item, fmt.Sprintf("%s[%d]", path, i), to.Index(i), c)
	}
}

func decodeMap(v *value, path string, to reflect.Value, c *check) {
	if !v.isMap() {
		return
	}
	to.Set(reflect.MakeMap(to.Type()))
	for name, f := range v.fields {
		inner := reflect.New(to.Type().Elem()).Elem()
		decode(f, join(path, name), inner, c)
		to.SetMapIndex(reflect.ValueOf(name), inner)
	}
}

func decodeScalar(v *value, path string, to reflect.Value, c *check) {
	switch x := v.scalar.(type) {
	case string:
		if to.Kind() == reflect.String {
			to.SetString(x)
		}
	case bool:
		if to.Kind() == reflect.Bool {
			to.SetBool(x)
		}
	case int64, uint64, float64:
		if !setNumber(to, x) {
			c.error(path, "out-of-range", fmt.Sprintf("%v is too large", x))
		}
	}
}

// setNumber sets to, a number of any kind, and reports whether x, an int64,
// uint64 or float64, fits.
func setNumber(to reflect.Value, x any) bool {
	f := reflect.ValueOf(x).Convert(reflect.TypeFor[float64]()).Float()
	whole, exact := x.(int64)
	if !exact && f >= -1<<53 && f <= 1<<53 && f == math.Trunc(f) {
		whole, exact = int64(f), true
	}
	switch {
	case to.CanFloat():
		to.SetFloat(f)
	case to.CanInt():
		if !exact || to.OverflowInt(whole) {
			return false
		}
		to.SetInt(whole)
	case to.CanUint():
		if !exact || whole < 0 || to.OverflowUint(uint64(whole)) {
			return false
		}
		to.SetUint(uint64(whole))
	}
	return true
}
