// The matrix product of packed weights with pixels that lie anywhere. Included by native.cpp alone.

#include "native_math.h"

// Some columns of A: step k of pixel i is at a[i * lda + at[k]]; their rows of B begin at `row`.
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
    v8 sum[MR][NV];
    UNROLL for (int n = 0; n < NV; n++) {
        const v8 first = load<v8>(bias + 8 * n);
        UNROLL for (int m = 0; m < MR; m++) sum[m][n] = first;
    }
    for (const Part<E> *part = parts; part < parts + count; part++) {
        const long lda = part->lda;
        const E *a = part->a + i * lda, *row = b + static_cast<long>(part->row) * 8 * S * NV;
        const int32_t *at = part->at, *end = at + part->steps;
        for (; at < end; at++, row += 8 * S * NV) {
            const E *from = a + *at;
            v8 weights[NV];
            UNROLL for (int n = 0; n < NV; n++) {
                std::memcpy(&weights[n], row + 8 * S * n, sizeof weights[n]);
                weights[n] = in_register(weights[n]);
            }
            UNROLL for (int m = 0; m < MR; m++) {
                const v8 values = step(from + m * lda);
                UNROLL for (int n = 0; n < NV; n++)
                    sum[m][n] = add_product(row, sum[m][n], values, weights[n]);
            }
        }
    }
    if (add) {
        UNROLL for (int m = 0; m < MR; m++)
            UNROLL for (int n = 0; n < NV; n++) sum[m][n] += load<v8>(add + m * ldc + 8 * n);
    }
    UNROLL for (int m = 0; m < MR; m++)
        UNROLL for (int n = 0; n < NV; n++) store(c + m * ldc + 8 * n, relu(sum[m][n]));
}

// The same as a function: quicker to compile, where it is not most of the work.
template <int NV, int MR, class E, class O>
__attribute__((noinline)) static void one_tile(const Part<E> *parts, int count, long i, const E *b,
                                               const float *bias, const O *add, O *c, long ldc) {
    tile<NV, MR>(parts, count, i, b, bias, add, c, ldc);
}

// ---------------------------------------------------------------- sizes

template <int N> struct Size { static const int value = N; };

// f(Size<size>{}), for a size from 1 to MOST that only the running program knows.
template <int MOST, class F> static inline void with_size(long size, F f) {
    if constexpr (MOST > 0) {
        if (size == MOST) f(Size<MOST>{});
        else with_size<MOST - 1>(size, f);
    }
}

// f(Size of vectors, first column) for each panel of n columns: three vectors where that leaves
// no single one behind.
template <class F> static inline void panels(int n, F f) {
    for (int left = n / 8; left > 0;) {
        const int width = left == 1 ? 1 : left == 2 || left == 4 ? 2 : 3;
        with_size<3>(width, [&](auto nv) { f(nv, n - 8 * left); });
        left -= width;
    }
}

// Rows of the largest tile, so that its sums stay in registers: 32 of them, or 16.
#if defined(__AVX512VL__)
constexpr int tile_rows(int nv) { return nv == 3 ? 8 : nv == 2 ? 12 : 4; }
#else
constexpr int tile_rows(int nv) { return nv == 2 ? 6 : 4; }
#endif

// ---------------------------------------------------------------- product

// Memory that is fetched into the second cache a little at a time, while a product runs: the first
// one is full.
class Ahead {
  public:
    void add(const void *from, long bytes) {
        if (bytes <= 0) return;
        const char *at = static_cast<const char *>(from);
        ranges[count++] = {at, at + bytes};
        lines += bytes / LINE + 1;
    }
    // It is done when as many tiles are as m pixels of n columns have.
    void spread(long m, int n) {
        const long tiles = (m + tile_rows(3) - 1) / tile_rows(3) * ((n + 23) / 24);
        per_tile = lines / std::max(1L, tiles) + 1;
    }
    void tile_begins() {
        long left = per_tile;
        for (; first < count; first++)
            for (Range &r = ranges[first]; r.at < r.end; r.at += LINE) {
                if (left-- == 0) return;
                __builtin_prefetch(r.at, 0, 2);
            }
    }

  private:
    static const int LINE = 64;
    struct Range { const char *at, *end; } ranges[3];
    int first = 0, count = 0;
    long lines = 0, per_tile = 0;
};

// One image row of a product.
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

// The columns of a panel, from col on, of `rows` of m pixels: `shift` values from the rows' add and
// C on, which have ldc values a pixel.
template <int NV, class E, class O>
static void panel(const Product<E> &p, const Row<E, O> *rows, int count, long m, int col,
                  long shift, long ldc, Ahead &ahead) {
    constexpr int MOST = tile_rows(NV);
    const E *b = p.b + static_cast<long>(p.steps) * Step<E>::size * col;
    const float *bias = p.bias + col;
    const long tiles = (m + MOST - 1) / MOST;
    with_size<MOST>((m + tiles - 1) / tiles, [&](auto size) {  // of all tiles, but for the last
        constexpr int MR = decltype(size)::value;
        for (const Row<E, O> *r = rows; r < rows + count; r++) {
            const O *add = r->add ? r->add + shift : nullptr;
            O *c = r->c + shift;
            long i = 0;
            for (; i + MR <= m; i += MR, c += MR * ldc, add += add ? MR * ldc : 0) {
                ahead.tile_begins();
                tile<NV, MR>(r->parts, p.parts, i, b, bias, add, c, ldc);
            }
            with_size<MR - 1>(m - i, [&](auto left) {
                one_tile<NV, decltype(left)::value>(r->parts, p.parts, i, b, bias, add, c, ldc);
            });
        }
    });
}

// C = relu(A B + bias + add) of `rows` of m pixels.
template <class E, class O>
static void multiply(const Product<E> &p, const Row<E, O> *rows, int count, long m, Ahead &ahead) {
    ahead.spread(count * m, p.n);
    panels(p.n, [&](auto nv, int col) {
        panel<decltype(nv)::value>(p, rows, count, m, col, col, p.n, ahead);
    });
}

// Lay B (k, n) out as products read it: panels of columns, each (k / step, columns, step).
template <class E> static void pack(const float *b, int k, int n, E *packed) {
    constexpr int S = Step<E>::size;
    panels(n, [&](auto nv, int col) {
        for (int i = 0; i < k; i += S)
            for (int j = 0; j < 8 * decltype(nv)::value; j++)
                for (int s = 0; s < S; s++)
                    set(packed++, b[static_cast<long>(i + s) * n + col + j]);
    });
}
