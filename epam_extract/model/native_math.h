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

#define UNROLL _Pragma("GCC unroll 16")

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

// ---------------------------------------------------------------- stored types

static inline v8 load(const float *p) { v8 v; std::memcpy(&v, p, sizeof v); return v; }
static inline void store(float *p, v8 v) { std::memcpy(p, &v, sizeof v); }
static inline void set(float *p, float a) { *p = a; }

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
static inline v8 in_register(v8 v) {
#if defined(__AVX512VL__)
    asm("" : "+v"(v));
#elif defined(__x86_64__) && defined(__AVX__)
    asm("" : "+x"(v));
#endif
    return v;
}

// x * sigmoid(x): 2^f on [-1/2, 1/2] is a polynomial, 1e-7 relative, and 1e-4 for bfloat16.
template <class E> static inline v8 silu(v8 x) {
    constexpr bool exact = Step<E>::size == 1;
    v8 y = x * splat(-1.44269504f);
#if defined(__AVX512VL__) && defined(__AVX512DQ__)
    y = _mm256_range_ps(y, splat(126), 2);  // the smaller magnitude, y's sign
    v8 n = _mm256_roundscale_ps(y, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    y = most(splat(-126), least(splat(126), y));
    const v8 magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    v8 n = (y + magic) - magic;
#endif
    v8 f = y - n;
    v8 p = splat(exact ? 1.326472690e-3f : 5.500892859e-2f);
    if constexpr (exact) {
        p = p * f + splat(9.671512661e-3f);
        p = p * f + splat(5.550733744e-2f);
    }
    p = p * f + splat(exact ? 2.402224208e-1f : 2.422109601e-1f);
    p = p * f + splat(exact ? 6.931469776e-1f : 6.932829276e-1f);
    p = p * f + splat(1);
#if defined(__AVX512VL__) && defined(__AVX512DQ__)
    p = splat(1) + v8(_mm256_scalef_ps(p, n));
    if constexpr (!exact) return x * v8(_mm256_rcp14_ps(p));
#else
    v8i bits = (__builtin_convertvector(n, v8i) + 127) << 23;
    v8 power;
    std::memcpy(&power, &bits, sizeof power);
    p = splat(1) + p * power;
#endif
    return x / p;
}

// ---------------------------------------------------------------- matrix product

static const int PARTS = 3;

// One image row of a product: the parts of A side by side, what to add, where to write.
template <class E, class O> struct Row {
    const E *a[PARTS];
    const E *add;  // null: nothing
    O *c;
};

template <class E> struct Product {
    const E *b;         // packed by pack()
    const float *bias;
    int n, parts;
    int k[PARTS];       // of each part, a multiple of Step<E>
    long lda[PARTS];    // values from pixel to pixel in each part of A; in add and C it is n
};

template <int NV, int MR, class E, class O>
static inline void tile(const Product<E> &p, const Row<E, O> &row, long i, const E *b, int col) {
    constexpr int S = Step<E>::size;
    v8 acc[MR][NV];
    UNROLL for (int n = 0; n < NV; n++) {
        const v8 bias = load(p.bias + col + 8 * n);
        UNROLL for (int m = 0; m < MR; m++) acc[m][n] = bias;
    }
    for (int part = 0; part < p.parts; part++) {
        const long lda = p.lda[part];
        const E *a = row.a[part] + i * lda;
        for (int k = 0; k < p.k[part]; k += S, b += 8 * S * NV) {
            v8 bv[NV];
            UNROLL for (int n = 0; n < NV; n++) {
                std::memcpy(&bv[n], b + 8 * S * n, sizeof bv[n]);
                bv[n] = in_register(bv[n]);
            }
            UNROLL for (int m = 0; m < MR; m++) {
                const v8 av = values(a + m * lda + k);
                UNROLL for (int n = 0; n < NV; n++) acc[m][n] = accumulate<E>(acc[m][n], av, bv[n]);
            }
        }
    }
    const long stride = p.n;
    const E *add = row.add;
    O *c = row.c + i * stride + col;
    if (add) {
        add += i * stride + col;
        UNROLL for (int m = 0; m < MR; m++)
            UNROLL for (int n = 0; n < NV; n++) acc[m][n] += load(add + m * stride + 8 * n);
    }
    UNROLL for (int m = 0; m < MR; m++)
        UNROLL for (int n = 0; n < NV; n++) store(c + m * stride + 8 * n, relu(acc[m][n]));
}

template <int NV, int MR, class E, class O>
static inline void rest(const Product<E> &p, const Row<E, O> &row, long i, long left, const E *b, int col) {
    if constexpr (MR > 0) {
        if (left == MR) tile<NV, MR>(p, row, i, b, col);
        else rest<NV, MR - 1>(p, row, i, left, b, col);
    }
}

template <int NV, int MR, class E, class O>
static void panel(const Product<E> &p, const Row<E, O> *rows, int count, long m, const E *b, int col) {
    for (int r = 0; r < count; r++) {
        long i = 0;
        for (; i + MR <= m; i += MR) tile<NV, MR>(p, rows[r], i, b, col);
        rest<NV, MR - 1>(p, rows[r], i, m - i, b, col);
    }
}

// Vectors in the next panel of `left` ones: 3 where that leaves no single one behind.
static inline int panel_width(int left) { return left == 1 ? 1 : left == 2 || left == 4 ? 2 : 3; }

#if defined(__AVX512VL__)
static const int ROWS_OF_3 = 8, ROWS_OF_2 = 12, ROWS_OF_1 = 14;  // 32 registers
#else
static const int ROWS_OF_3 = 4, ROWS_OF_2 = 6, ROWS_OF_1 = 8;  // 16
#endif

// C = relu(A B + bias + add) for `count` rows of m pixels.
template <class E, class O>
static void multiply(const Product<E> &p, const Row<E, O> *rows, int count, long m) {
    long k = 0;
    for (int part = 0; part < p.parts; part++) k += p.k[part];
    const E *b = p.b;
    for (int left = p.n / 8; left > 0;) {
        int width = panel_width(left), col = p.n - 8 * left;
        if (width == 3) panel<3, ROWS_OF_3>(p, rows, count, m, b, col);
        else if (width == 2) panel<2, ROWS_OF_2>(p, rows, count, m, b, col);
        else panel<1, ROWS_OF_1>(p, rows, count, m, b, col);
        b += k * 8 * width;
        left -= width;
    }
}

// Lay B (k, n) out as multiply() reads it: panels of columns, each (k / step, 8 * width, step).
template <class E> static void pack(const float *b, int k, int n, E *packed) {
    constexpr int S = Step<E>::size;
    for (int left = n / 8; left > 0;) {
        int width = panel_width(left), col = n - 8 * left;
        for (int i = 0; i < k; i += S)
            for (int j = 0; j < 8 * width; j++)
                for (int s = 0; s < S; s++)
                    set(packed++, b[static_cast<long>(i + s) * n + col + j]);
        left -= width;
    }
}
