package sig

import (
	"fmt"

	"github.com/consensys/gnark-crypto/ecc/secp256k1/fp"
	secp "github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// hashToCurve sets p, affine, to RFC 9380's hash_to_curve of msg, with the suite
// secp256k1_XMD:SHA-256_SSWU_RO_ (§8.7) under the domain separation tag dst.
//
// gnark-crypto's own HashToG1 for this curve uses another map (SVDW), which is no suite
// of the RFC; from there come only the field and hash_to_field.
func hashToCurve(msg []byte, dst string, p *secp.JacobianPoint) {
	u, err := fp.Hash(msg, []byte(dst), 2)
	if err != nil { // only for a dst above 255 bytes
		panic(fmt.Sprintf("sig: hash to field: %v", err))
	}
	var q secp.JacobianPoint
	mapToCurve(&u[0], p)
	mapToCurve(&u[1], &q)
	secp.AddNonConst(p, &q, p)
	p.ToAffine()
}

// The curve E' : y² = x³ + A'·x + B' that is isogenous to secp256k1, and Z (RFC 9380 §8.7).
var (
	isoA = element("3f8731abdd661adca08a5558f0f5d272e953d363cb6f0e5d405447c01a444533")
	isoB = fp.NewElement(1771)
	isoZ = element("fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc24") // −11

	isoMinusBA = ratio(negative(isoB), isoA)      // −B'/A'
	isoBZA     = ratio(isoB, product(isoZ, isoA)) // B'/(Z·A')
)

// isogeny is the 3-isogeny from E' to secp256k1, x_num, x_den, y_num and y_den (RFC 9380,
// appendix E.1): polynomials in x, the coefficient of the highest power first.
var isogeny = [4][]fp.Element{
	{
		element("8e38e38e38e38e38e38e38e38e38e38e38e38e38e38e38e38e38e38daaaaa88c"),
		element("534c328d23f234e6e2a413deca25caece4506144037c40314ecbd0b53d9dd262"),
		element("07d3d4c80bc321d5b9f315cea7fd44c5d595d2fc0bf63b92dfff1044f17c6581"),
		element("8e38e38e38e38e38e38e38e38e38e38e38e38e38e38e38e38e38e38daaaaa8c7"),
	}, {
		element("0000000000000000000000000000000000000000000000000000000000000001"),
		element("edadc6f64383dc1df7c4b2d51b54225406d36b641f5e41bbc52a56612a8c6d14"),
		element("d35771193d94918a9ca34ccbb7b640dd86cd409542f8487d9fe6b745781eb49b"),
	}, {
		element("2f684bda12f684bda12f684bda12f684bda12f684bda12f684bda12f38e38d84"),
		element("29a6194691f91a73715209ef6512e576722830a201be2018a765e85a9ecee931"),
		element("c75e0c32d5cb7c0fa9d0a54b12a0a6d5647ab046d686da6fdffc90fc201d71a3"),
		element("4bda12f684bda12f684bda12f684bda12f684bda12f684bda12f684b8e38e23c"),
	}, {
		element("0000000000000000000000000000000000000000000000000000000000000001"),
		element("6484aa716545ca2cf3a70c3fa8fe337e0a3d21162f0d6299a7bf8192bfd2a76f"),
		element("7a06534bb8bdb49fd5e9e6632722c2989467c1bfc8e8d978dfb425d2685c2573"),
		element("fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffff93b"),
	},
}

// mapToCurve sets p to the point of u: simplified Shallue–van de Woestijne–Ulas onto E'
// (RFC 9380 §6.6.2), then the isogeny (§6.6.3).
func mapToCurve(u *fp.Element, p *secp.JacobianPoint) {
	var zu2, t, x, gx, y fp.Element
	zu2.Square(u)
	zu2.Mul(&zu2, &isoZ)
	t.Square(&zu2)
	t.Add(&t, &zu2)
	if t.IsZero() {
		x = isoBZA
	} else {
		t.Inverse(&t)
		t.Add(&t, new(fp.Element).SetOne())
		x.Mul(&t, &isoMinusBA)
	}
	gx = onIso(&x)
	if y.Sqrt(&gx) == nil { // then the other x has a square
		x.Mul(&x, &zu2)
		gx = onIso(&x)
		y.Sqrt(&gx)
	}
	if odd(u) != odd(&y) {
		y.Neg(&y)
	}
	// E' has the prime order of secp256k1, so none of its points is in the kernel of the
	// isogeny, and neither denominator is zero.
	var at [4]fp.Element
	for i := range at {
		at[i] = evaluate(isogeny[i], &x)
	}
	x = ratio(at[0], at[1])
	y = product(y, ratio(at[2], at[3]))
	xb, yb := x.Bytes(), y.Bytes()
	p.X.SetBytes(&xb)
	p.Y.SetBytes(&yb)
	p.Z.SetInt(1)
}

// onIso is x³ + A'·x + B'.
func onIso(x *fp.Element) (y fp.Element) {
	y.Square(x)
	y.Add(&y, &isoA)
	y.Mul(&y, x)
	y.Add(&y, &isoB)
	return y
}

func odd(x *fp.Element) bool { return x.Bits()[0]&1 == 1 }

// evaluate is a polynomial's value at x, by Horner's rule.
func evaluate(coefficients []fp.Element, x *fp.Element) (y fp.Element) {
	for i := range coefficients {
		y.Mul(&y, x)
		y.Add(&y, &coefficients[i])
	}
	return y
}

func ratio(a, b fp.Element) fp.Element {
	b.Inverse(&b)
	a.Mul(&a, &b)
	return a
}

func product(a, b fp.Element) fp.Element { a.Mul(&a, &b); return a }

func negative(a fp.Element) fp.Element { a.Neg(&a); return a }

func element(hexadecimal string) fp.Element {
	var e fp.Element
	if _, err := e.SetString("0x" + hexadecimal); err != nil {
		panic(err)
	}
	return e
}
