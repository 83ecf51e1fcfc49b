// Vectors of 8 float32 on any processor, the two types that arrays are stored in, and the matrix
// product. Included by native.cpp alone.

#include <algorithm>
#include <cstdint>
#include <cstring>
#if defined(__AVX__)
#include <immintrin.h>
#endif
#if defined(__AVX512BF16__) && defined(__AVX512VL__)
#define EPAM_BF16 1
#endif

#define UNROLL _Pragma("GCC unroll 32")

typedef float v8 __attribute__((vector_size(32)));
typedef int32_t v8i __attribute__((vector_size(32)));

static inline v8 splat(float a) { return v8{a, a, a, a, a, a, a, a}; }
#if defined(__AVX__)
static inline v8 least(v8 bound, v8 x) { return _mm256_min_ps(bound, x); }  // NaN stays NaN
static inline v8 most(v8 bound, v8 x) { return _mm256_max_ps(bound, x); }
#else
static inline v8 least(v8 bound, v8 x) { return bound < x ? bound : x; }
static inline v8 most(v8 bound, v8 x) { return bound > x ? bound : x; }
#endif
static inline v8 relu(v8 x) { return most(splat(0), x); }

#if defined(__AVX512VL__) && defined(__AVX512DQ__)
#define EPAM_AVX512 1
typedef float wide __attribute__((vector_size(64)));  // where more than v8 are side by side
#else
typedef v8 wide;
#endif
const int WIDE = sizeof(wide) / sizeof(v8);

template <class V> static inline V all(float a);
template <> inline v8 all<v8>(float a) { return splat(a); }
template <class V, class E> static inline V load_as(const E *p);

// ---------------------------------------------------------------- stored types

static inline v8 load(const float *p) { v8 v; std::memcpy(&v, p, sizeof v); return v; }
static inline void store(float *p, v8 v) { std::memcpy(p, &v, sizeof v); }
static inline void set(float *p, float a) { *p = a; }
template <> inline v8 load_as<v8>(const float *p) { return load(p); }
#if defined(EPAM_AVX512)
template <> inline wide all<wide>(float a) { return _mm512_set1_ps(a); }
template <> inline wide load_as<wide>(const float *p) { return _mm512_loadu_ps(p); }
static inline void store(float *p, wide v) { _mm512_storeu_ps(p, v); }
#endif

// A product takes STEP values of a pixel at a time, with as many rows of B side by side.
template <class E> struct Step { static const int size = 1; };

static inline v8 values(const float *a) { return splat(*a); }
static inline v8 multiply_add(v8 acc, v8 a, v8 b) { return acc + a * b; }

#if defined(EPAM_BF16)
struct bf16 { uint16_t bits; };

template <> struct Step<bf16> { static const int size = 2; };

static inline v8 load(const bf16 *p) {
    __m128i packed;
    std::memcpy(&packed, p, sizeof packed);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(packed), 16));
}
static inline void store(bf16 *p, v8 v) {
    __m128bh packed = _mm256_cvtneps_pbh(v);
    std::memcpy(p, &packed, sizeof packed);
}
template <> inline v8 load_as<v8>(const bf16 *p) { return load(p); }
#if defined(EPAM_AVX512)
template <> inline wide load_as<wide>(const bf16 *p) {
    __m256i packed;
    std::memcpy(&packed, p, sizeof packed);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(packed), 16));
}
static inline void store(bf16 *p, wide v) {
    __m256bh packed = _mm512_cvtneps_pbh(v);
    std::memcpy(p, &packed, sizeof packed);
}
#endif
static inline void set(bf16 *p, float a) {
    __m128bh packed = _mm_cvtneps_pbh(_mm_set_ss(a));
    std::memcpy(p, &packed, sizeof *p);
}
static inline v8 values(const bf16 *a) {
    int32_t pair;
    std::memcpy(&pair, a, sizeof pair);
    return _mm256_castsi256_ps(_mm256_set1_epi32(pair));
}
static inline v8 multiply_add_pairs(v8 acc, v8 a, v8 b) {
    return _mm256_dpbf16_ps(acc, (__m256bh)a, (__m256bh)b);
}
#endif

template <class E> static inline v8 accumulate(v8 acc, v8 a, v8 b) {
    if constexpr (Step<E>::size == 1) return multiply_add(acc, a, b);
#if defined(EPAM_BF16)
    else return multiply_add_pairs(acc, a, b);
#endif
}

// Keeps a loaded vector in its register: compilers would rather load it again at every use, and
// the two loads a cycle are what a product waits for.
template <class V> static inline V in_register(V v) {
#if defined(__AVX512VL__)
    asm("" : "+v"(v));
#elif defined(__x86_64__) && defined(__AVX__)
    asm("" : "+x"(v));
#endif
    return v;
}

// The parts of SiLU that processors differ in: y's integer, 2^n times p, and 1 / p, roughly.
#if defined(EPAM_AVX512)
static inline v8 least_126(v8 y) { return _mm256_min_ps(splat(126), y); }
static inline v8 nearest(v8 y) { return _mm256_roundscale_ps(y, 8); }
static inline v8 scaled(v8 p, v8 n) { return _mm256_scalef_ps(p, n); }
static inline v8 rough_inverse(v8 p) { return _mm256_rcp14_ps(p); }
static inline wide least_126(wide y) { return _mm512_min_ps(all<wide>(126), y); }
static inline wide nearest(wide y) { return _mm512_roundscale_ps(y, 8); }
static inline wide scaled(wide p, wide n) { return _mm512_scalef_ps(p, n); }
static inline wide rough_inverse(wide p) { return _mm512_rcp14_ps(p); }
#else
static inline v8 least_126(v8 y) { return most(splat(-126), least(splat(126), y)); }
static inline v8 nearest(v8 y) {
    const v8 magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    return (y + magic) - magic;
}
static inline v8 scaled(v8 p, v8 n) {
    v8i bits = (__builtin_convertvector(n, v8i) + 127) << 23;
    v8 power;
    std::memcpy(&power, &bits, sizeof power);
    return p * power;
}
static inline v8 rough_inverse(v8 p) { return splat(1) / p; }
#endif

// x * sigmoid(x) of N vectors, side by side to hide what one operation waits for the last: 2^f on
// [-1/2, 1/2] is a polynomial, 1e-7 relative, and 1e-4 for bfloat16.
template <class E, class V, int N> static inline void silu(V (&x)[N]) {
    constexpr bool exact = Step<E>::size == 1;
    V y[N], n[N], p[N];
    UNROLL for (int i = 0; i < N; i++) y[i] = least_126(x[i] * all<V>(-1.44269504f));
    UNROLL for (int i = 0; i < N; i++) n[i] = nearest(y[i]);
    UNROLL for (int i = 0; i < N; i++) y[i] -= n[i];
    if constexpr (exact) {
        UNROLL for (int i = 0; i < N; i++) p[i] = all<V>(1.326472690e-3f) * y[i] + all<V>(9.671512661e-3f);
        UNROLL for (int i = 0; i < N; i++) p[i] = p[i] * y[i] + all<V>(5.550733744e-2f);
    } else {
        UNROLL for (int i = 0; i < N; i++) p[i] = all<V>(5.500892859e-2f);
    }
    UNROLL for (int i = 0; i < N; i++) p[i] = p[i] * y[i] + all<V>(exact ? 2.402224208e-1f : 2.422109601e-1f);
    UNROLL for (int i = 0; i < N; i++) p[i] = p[i] * y[i] + all<V>(exact ? 6.931469776e-1f : 6.932829276e-1f);
    UNROLL for (int i = 0; i < N; i++) p[i] = p[i] * y[i] + all<V>(1);
    UNROLL for (int i = 0; i < N; i++) p[i] = all<V>(1) + scaled(p[i], n[i]);
    if constexpr (exact) {
        UNROLL for (int i = 0; i < N; i++) x[i] /= p[i];
    } else {
        UNROLL for (int i = 0; i < N; i++) x[i] *= rough_inverse(p[i]);
    }
}

// ---------------------------------------------------------------- matrix product

// Some columns of A: step k of pixel i at a[i * lda + at[k]], its rows of B from `row` on.
template <class E> struct Part {
    const E *a;
    long lda;
    const int32_t *at;
    int steps, row;
};

// MR pixels of relu(A B + bias + add), NV vectors wide. B, bias, add and C start at its corner.
template <int NV, int MR, class E, class O>
static inline void tile(const Part<E> *parts, int count, long i, const E *b, const float *bias,
                        const O *add, O *c, long ldc) {
    constexpr int S = Step<E>::size;
    v8 acc[MR][NV];
    UNROLL for (int n = 0; n < NV; n++) {
        const v8 first = load(bias + 8 * n);
        UNROLL for (int m = 0; m < MR; m++) acc[m][n] = first;
    }
    for (const Part<E> *part = parts; part < parts + count; part++) {
        const long lda = part->lda;
        const E *a = part->a + i * lda, *bk = b + static_cast<long>(part->row) * 8 * S * NV;
        const int32_t *at = part->at, *end = at + part->steps;
        for (; at < end; at++, bk += 8 * S * NV) {
            const E *from = a + *at;
            v8 bv[NV];
            UNROLL for (int n = 0; n < NV; n++) {
                std::memcpy(&bv[n], bk + 8 * S * n, sizeof bv[n]);
                bv[n] = in_register(bv[n]);
            }
            UNROLL for (int m = 0; m < MR; m++) {
                const v8 av = values(from + m * lda);
                UNROLL for (int n = 0; n < NV; n++) acc[m][n] = accumulate<E>(acc[m][n], av, bv[n]);
            }
        }
    }
    if (add) {
        UNROLL for (int m = 0; m < MR; m++)
            UNROLL for (int n = 0; n < NV; n++) acc[m][n] += load(add + m * ldc + 8 * n);
    }
    UNROLL for (int m = 0; m < MR; m++)
        UNROLL for (int n = 0; n < NV; n++) store(c + m * ldc + 8 * n, relu(acc[m][n]));
}

// The tile that is left at a row's end: compiled apart, since it has as many sizes as the others.
template <int NV, int MR, class E, class O>
__attribute__((noinline)) static void last_tile(const Part<E> *parts, int count, long i, const E *b,
                                                const float *bias, const O *add, O *c, long ldc) {
    tile<NV, MR>(parts, count, i, b, bias, add, c, ldc);
}

template <int N> struct Width { static const int value = N; };

// f(Width<size>), for a size that is known only now.
template <int MOST, class F> static inline void with_width(long size, F f) {
    if constexpr (MOST > 0) {
        if (size == MOST) f(Width<MOST>{});
        else with_width<MOST - 1>(size, f);
    }
}

// Vectors in the next panel of `left` ones: 3 where that leaves no single one behind.
static inline int panel_width(int left) { return left == 1 ? 1 : left == 2 || left == 4 ? 2 : 3; }

// f(Width, first column) of each panel of n columns.
template <class F> static inline void panels(int n, F f) {
    for (int left = n / 8; left > 0;) {
        const int width = panel_width(left);
        with_width<3>(width, [&](auto nv) { f(nv, n - 8 * left); });
        left -= width;
    }
}

#if defined(__AVX512VL__)
constexpr int tile_rows(int nv) { return nv == 2 ? 12 : 8; }  // 32 registers
#else
constexpr int tile_rows(int nv) { return nv == 2 ? 6 : 4; }  // 16
#endif

// How many tiles m pixels of n columns have, about.
static inline long tiles_of(long m, int n) { return (m + tile_rows(3) - 1) / tile_rows(3) * ((n + 23) / 24); }

// One image row of a product: parts of A, what to add, where to write.
template <class E, class O> struct Row {
    Part<E> parts[2];
    const O *add;  // null: nothing
    O *c;
};

template <class E> struct Product {
    const E *b;  // packed by pack()
    const float *bias;
    int n, parts, steps;  // columns of B; parts of A; rows of B, in steps
};



// What is fetched into the cache a little at a time, while a product runs.
class Ahead {
  public:
    void add(const void *from, long bytes) {
        if (bytes <= 0) return;
        ranges[count++] = {static_cast<const char *>(from), static_cast<const char *>(from) + bytes};
        total += bytes / 64 + 1;
    }
    void spread(long steps) { quota = total / std::max(1L, steps) + 1; }
    void step() {
        long left = quota;
        for (; first < count; first++)
            for (Range &r = ranges[first]; r.at < r.end; r.at += 64) {
                if (left-- == 0) return;
                __builtin_prefetch(r.at);
            }
    }

  private:
    struct Range { const char *at, *end; } ranges[4];
    int first = 0, count = 0;
    long total = 0, quota = 0;
};

// Columns col.. of a product, for `count` rows of m pixels; they are `shift` values from a row's
// `add` and C on, which have ldc values a pixel.
template <int NV, class E, class O>
static void panel(const Product<E> &p, const Row<E, O> *rows, int count, long m, int col, long ldc, long shift, Ahead &ahead) {
    constexpr int MOST = tile_rows(NV);
    const E *b = p.b + static_cast<long>(p.steps) * Step<E>::size * col;
    const long tiles = (m + MOST - 1) / MOST;
    with_width<MOST>((m + tiles - 1) / tiles, [&](auto mr) {  // all of one size, but for the last
        constexpr int MR = decltype(mr)::value;
        for (const Row<E, O> *r = rows; r < rows + count; r++) {
            const O *add = r->add ? r->add + shift : nullptr;
            O *c = r->c + shift;
            long i = 0;
            for (; i + MR <= m; i += MR, c += MR * ldc, add += add ? MR * ldc : 0) {
                ahead.step();
                tile<NV, MR>(r->parts, p.parts, i, b, p.bias + col, add, c, ldc);
            }
            with_width<MR - 1>(m - i, [&](auto left) {
                last_tile<NV, decltype(left)::value>(r->parts, p.parts, i, b, p.bias + col, add, c, ldc);
            });
        }
    });
}

// C = relu(A B + bias + add) for `count` rows of m pixels.
template <class E, class O>
static void multiply(const Product<E> &p, const Row<E, O> *rows, int count, long m, Ahead &ahead) {
    ahead.spread(count * tiles_of(m, p.n));
    panels(p.n, [&](auto nv, int col) {
        panel<decltype(nv)::value>(p, rows, count, m, col, p.n, col, ahead);
    });
}

// Lay B (k, n) out as products read it: panels of columns, each (k / step, 8 * width, step).
template <class E> static void pack(const float *b, int k, int n, E *packed) {
    constexpr int S = Step<E>::size;
    panels(n, [&](auto nv, int col) {
        for (int i = 0; i < k; i += S)
            for (int j = 0; j < 8 * decltype(nv)::value; j++)
                for (int s = 0; s < S; s++) set(packed++, b[static_cast<long>(i + s) * n + col + j]);
    });
}
