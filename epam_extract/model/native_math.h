// Vectors of float32 on any processor, and the two types that arrays are stored in. Included by
// native.cpp alone.

#include <algorithm>
#include <cstdint>
#include <cstring>
#if defined(__AVX__)
#include <immintrin.h>
#endif
#if defined(__AVX512VL__) && defined(__AVX512DQ__)
#define EPAM_AVX512 1
#if defined(__AVX512BF16__)
#define EPAM_BF16 1
#endif
#endif

#define UNROLL _Pragma("GCC unroll 32")

typedef float v8 __attribute__((vector_size(32)));
typedef int32_t v8i __attribute__((vector_size(32)));
#if defined(EPAM_AVX512)
typedef float wide __attribute__((vector_size(64)));  // the widest that there is
#else
typedef v8 wide;
#endif
const int WIDE = sizeof(wide) / sizeof(v8);

template <class V> static inline V all(float a) {
    if constexpr (sizeof(V) == sizeof(v8)) return V{a, a, a, a, a, a, a, a};
    else return V{a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a};
}

#if defined(__AVX__)
static inline v8 relu(v8 x) { return _mm256_max_ps(all<v8>(0), x); }  // NaN stays NaN
#else
static inline v8 relu(v8 x) { return x < 0 ? all<v8>(0) : x; }
#endif

// ---------------------------------------------------------------- stored types

// A product takes STEP values of a pixel at a time, with as many rows of B side by side.
template <class E> struct Step { static const int size = 1; };

template <class V> static inline V load(const float *p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
template <class V> static inline void store(float *p, V v) { std::memcpy(p, &v, sizeof v); }
static inline void set(float *p, float a) { *p = a; }
static inline v8 step(const float *a) { return all<v8>(*a); }
static inline v8 add_product(const float *, v8 sum, v8 a, v8 b) { return sum + a * b; }

#if defined(EPAM_BF16)
struct bf16 { uint16_t bits; };

template <> struct Step<bf16> { static const int size = 2; };

template <class V> static inline V load(const bf16 *p) {
    if constexpr (sizeof(V) == sizeof(v8)) {
        const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i *>(p));
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(packed), 16));
    } else {
        const __m256i packed = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(p));
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(packed), 16));
    }
}
static inline __m128bh rounded(v8 v) { return _mm256_cvtneps_pbh(v); }
static inline __m256bh rounded(wide v) { return _mm512_cvtneps_pbh(v); }
template <class V> static inline void store(bf16 *p, V v) {
    const auto packed = rounded(v);
    std::memcpy(p, &packed, sizeof packed);
}
static inline void set(bf16 *p, float a) {
    const __m128bh packed = _mm_cvtneps_pbh(_mm_set_ss(a));
    std::memcpy(p, &packed, sizeof *p);
}
static inline v8 step(const bf16 *a) {
    int32_t pair;
    std::memcpy(&pair, a, sizeof pair);
    return _mm256_castsi256_ps(_mm256_set1_epi32(pair));
}
static inline v8 add_product(const bf16 *, v8 sum, v8 a, v8 b) {
    return _mm256_dpbf16_ps(sum, (__m256bh)a, (__m256bh)b);
}
#endif

// Keeps a loaded vector in its register: compilers would rather load it again at every use, and
// there are only two loads a cycle.
template <class V> static inline V in_register(V v) {
#if defined(__AVX512VL__)
    asm("" : "+v"(v));
#elif defined(__x86_64__) && defined(__AVX__)
    asm("" : "+x"(v));
#endif
    return v;
}

// ---------------------------------------------------------------- SiLU

// What processors differ in: y up to 126, y's nearest integer, p * 2^n, about 1 / p.
#if defined(EPAM_AVX512)
static inline v8 bounded(v8 y) { return _mm256_min_ps(all<v8>(126), y); }  // NaN stays NaN
static inline v8 nearest(v8 y) { return _mm256_roundscale_ps(y, 8); }
static inline v8 scaled(v8 p, v8 n) { return _mm256_scalef_ps(p, n); }
static inline v8 inverse(v8 p) { return _mm256_rcp14_ps(p); }
static inline wide bounded(wide y) { return _mm512_min_ps(all<wide>(126), y); }
static inline wide nearest(wide y) { return _mm512_roundscale_ps(y, 8); }
static inline wide scaled(wide p, wide n) { return _mm512_scalef_ps(p, n); }
static inline wide inverse(wide p) { return _mm512_rcp14_ps(p); }
#else
static inline v8 bounded(v8 y) {
#if defined(__AVX__)
    return _mm256_max_ps(all<v8>(-126), _mm256_min_ps(all<v8>(126), y));
#else
    y = y > 126 ? all<v8>(126) : y;
    return y < -126 ? all<v8>(-126) : y;
#endif
}
static inline v8 nearest(v8 y) {
    const v8 magic = all<v8>(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    return (y + magic) - magic;
}
static inline v8 scaled(v8 p, v8 n) {
    const v8i bits = (__builtin_convertvector(n, v8i) + 127) << 23;
    v8 power;
    std::memcpy(&power, &bits, sizeof power);
    return p * power;
}
static inline v8 inverse(v8 p) { return all<v8>(1) / p; }
#endif

// x * sigmoid(x) of N vectors side by side, as each operation waits for the one before: 2^f on
// [-1/2, 1/2] is a polynomial, 1e-7 relative, and 1e-4 for bfloat16.
template <class E, class V, int N> static inline void silu(V (&x)[N]) {
    constexpr bool exact = Step<E>::size == 1;
    V y[N], n[N], p[N];
    UNROLL for (int i = 0; i < N; i++) y[i] = bounded(x[i] * all<V>(-1.44269504f));
    UNROLL for (int i = 0; i < N; i++) n[i] = nearest(y[i]);
    UNROLL for (int i = 0; i < N; i++) y[i] -= n[i];
    auto times_y_plus = [&](float a) {
        UNROLL for (int i = 0; i < N; i++) p[i] = p[i] * y[i] + all<V>(a);
    };
    UNROLL for (int i = 0; i < N; i++) p[i] = all<V>(exact ? 1.326472690e-3f : 5.500892859e-2f);
    if constexpr (exact) {
        times_y_plus(9.671512661e-3f);
        times_y_plus(5.550733744e-2f);
    }
    times_y_plus(exact ? 2.402224208e-1f : 2.422109601e-1f);
    times_y_plus(exact ? 6.931469776e-1f : 6.932829276e-1f);
    times_y_plus(1);
    UNROLL for (int i = 0; i < N; i++) p[i] = all<V>(1) + scaled(p[i], n[i]);
    if constexpr (exact) {
        UNROLL for (int i = 0; i < N; i++) x[i] /= p[i];
    } else {
        UNROLL for (int i = 0; i < N; i++) x[i] *= inverse(p[i]);
    }
}
