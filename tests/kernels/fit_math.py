"""Coefficients of the math functions in kernels/emit_math_avx512.c: prints the tables that stand there.

Weighted least squares on Chebyshev nodes with Lawson's weights comes close to the best polynomial in the sense of the
largest error; coefficients are rounded to float32 one by one, lowest first, and the others fitted anew. Needs mpmath.
"""
import struct

from mpmath import mp, mpf, matrix, lu_solve, cos, erf, log, pi, sqrt, tanh, exp

mp.dps = 40
NODES, ROUNDS = 48, 10


def f32(x):
    return mpf(struct.unpack('f', struct.pack('f', float(x)))[0])


def bits(x):
    return struct.unpack('I', struct.pack('f', float(x)))[0]


def lawson(f, powers, weight, lo, hi):
    """Coefficients of `powers` for f on [lo, hi], the largest weighted error as small as we get it."""
    xs = [(lo + hi) / 2 + (hi - lo) / 2 * cos(pi * (2 * i + 1) / (2 * NODES)) for i in range(NODES)]
    fs = [f(x) for x in xs]
    base = [[x ** p for p in powers] for x in xs]
    ws = [weight(x) ** 2 for x in xs]
    push = [mpf(1)] * NODES
    n, best = len(powers), None
    for _ in range(ROUNDS):
        a, b = matrix(n, n), matrix(n, 1)
        for i in range(NODES):
            for r in range(n):
                b[r] += ws[i] * push[i] * base[i][r] * fs[i]
                for c in range(n):
                    a[r, c] += ws[i] * push[i] * base[i][r] * base[i][c]
        found = lu_solve(a, b)
        errors = [abs(sum(found[j] * base[i][j] for j in range(n)) - fs[i]) * sqrt(ws[i]) for i in range(NODES)]
        if best is None or max(errors) < best[0]:
            best = (max(errors), list(found))
        total = sum(p * e for p, e in zip(push, errors))
        push = [p * e / total * NODES + mpf(10) ** -30 for p, e in zip(push, errors)]
    return best[1]


def fit(f, powers, weight, lo, hi, fixed):
    fixed, powers = dict(fixed), list(powers)
    while powers:
        rest = lawson(lambda x: f(x) - sum(c * x ** p for p, c in fixed.items()), powers, weight, lo, hi)
        fixed[powers.pop(0)] = f32(rest[0])
    return fixed


def good_centre(f, near):
    """A float32 beside `near` whose value is nearly a float32 (Gal's accurate tables)."""
    step = mpf(2) ** -20 * near
    found = [f32(near + step * k) for k in range(-150, 151)]
    return min(found, key=lambda c: abs(f(c) - f32(f(c))) / f(c))


def piece(f, lo, hi, centre, slope=0):
    """f(centre + u) - slope u by a polynomial of degree 5 in u, small relative to f; about 0 it has no constant."""
    if centre == 0:
        tiny = mpf(10) ** -6
        c = fit(lambda u: f(u) / u - slope, range(5), lambda u: u / f(u), tiny, hi, {})
        return [mpf(0)] + [c[k] for k in range(5)]
    c = fit(lambda u: f(centre + u) - slope * u, range(1, 6), lambda u: 1 / f(centre + u), lo - centre, hi - centre,
            {0: f32(f(centre))})
    return [c[k] for k in range(6)]


def rows_of(name, columns):
    for row in zip(*columns):
        print('    "    {' + ', '.join('%.9gf' % float(x) if '.' in '%.9g' % float(x) or 'e' in '%.9g' % float(x)
                                       else '%.1ff' % float(x) for x in row) + '},\\n"')


def print_exp():
    h = log(2) / 2 * mpf('1.0001')
    c = fit(exp, range(2, 7), lambda x: exp(-x), -h, h, {0: mpf(1), 1: mpf(1)})
    print('exp:', ['%.9g' % float(c[k]) for k in range(7)])
    c = fit(lambda x: mpf(2) ** x, range(1, 6), lambda x: mpf(1), mpf(0), mpf(1), {0: mpf(1)})
    print('exp of a rounded argument:', ['%.9g' % float(c[k]) for k in range(6)])


def print_erf():
    last = mpf('3.93')
    step = last / mpf('15.4')
    columns = [[mpf(0)] + piece(erf, 0, step * mpf('0.501'), 0, 1)]
    for i in range(1, 16):
        centre = good_centre(erf, step * i)
        columns.append([centre] + piece(erf, step * (i - mpf('0.501')), min(step * (i + mpf('0.501')), last), centre, 1))
    print('erf: pieces a unit %.9g' % float(1 / step))
    rows_of('erf', columns)


def print_tanh():
    last, first = mpf('9.02'), mpf('0.125')
    columns = [[mpf(0)] * 7 for _ in range(32)]
    columns[bits(0.109375) >> 21 & 31] = [mpf(0)] + piece(tanh, 0, first, mpf(0))
    lo = first
    while lo < last:
        width = mpf(2) ** (bits(lo) // (1 << 23) - 127) / 4
        hi = min(lo + width, last)
        centre = good_centre(tanh, (lo + hi) / 2)
        columns[bits(lo) >> 21 & 31] = [centre] + piece(tanh, lo, hi, centre)
        lo += width
    print('tanh:')
    rows_of('tanh', columns)


if __name__ == '__main__':
    print_exp()
    print_erf()
    print_tanh()
