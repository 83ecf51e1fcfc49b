// One X3D stream in float32 on a CPU, a few image rows at a time, so that what lies between a
// block's three convolutions never leaves the core's own cache. Built and called by native.py.
//
// Arrays are (T, H, W, C) with C a multiple of 8. Every function runs in the calling thread and
// touches only what it is given: threads may call it at the same time with scratch of their own.

#include <algorithm>
#include <cstdint>
#include <cstring>
#if defined(__AVX__)
#include <immintrin.h>
#endif

typedef float v8 __attribute__((vector_size(32)));
typedef int32_t v8i __attribute__((vector_size(32)));

static inline v8 load(const float *p) { v8 v; std::memcpy(&v, p, sizeof v); return v; }
static inline void store(float *p, v8 v) { std::memcpy(p, &v, sizeof v); }
static inline v8 splat(float a) { return v8{a, a, a, a, a, a, a, a}; }
#if defined(__AVX__)
static inline v8 least(v8 bound, v8 x) { return _mm256_min_ps(bound, x); }  // NaN stays NaN
static inline v8 most(v8 bound, v8 x) { return _mm256_max_ps(bound, x); }
#else
static inline v8 least(v8 bound, v8 x) { return bound < x ? bound : x; }
static inline v8 most(v8 bound, v8 x) { return bound > x ? bound : x; }
#endif
static inline v8 relu(v8 x) { return most(splat(0), x); }

// Keeps a loaded vector in its register: compilers would rather load it again at every use, and
// the two loads a cycle are what a product waits for.
static inline v8 in_register(v8 v) {
#if defined(__x86_64__) && defined(__AVX__)
    asm("" : "+x"(v));
#endif
    return v;
}

// x * sigmoid(x); exp as 2^n times a polynomial on [-ln2/2, ln2/2] (Cephes' expf), 2e-7 relative.
static inline v8 silu(v8 x) {
    v8 z = most(splat(-87.0f), least(splat(88.0f), -x));
    const v8 magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    v8 n = (z * splat(1.44269504f) + magic) - magic;
    v8 r = z - n * splat(0.693359375f) + n * splat(2.12194440e-4f);
    v8 p = splat(1.9875691500e-4f);
    p = p * r + splat(1.3981999507e-3f);
    p = p * r + splat(8.3334519073e-3f);
    p = p * r + splat(4.1665795894e-2f);
    p = p * r + splat(1.6666665459e-1f);
    p = p * r + splat(5.0000001201e-1f);
    p = p * r * r + r + splat(1.0f);
    v8i bits = (__builtin_convertvector(n, v8i) + 127) << 23;
    v8 power;
    std::memcpy(&power, &bits, sizeof power);
    return x / (splat(1.0f) + p * power);
}

// ---------------------------------------------------------------- matrix product

// One image row of a product: up to 3 parts of A side by side, what to add, where to write.
struct Row {
    const float *a[3];
    const float *add;  // null: nothing
    float *c;
};

struct Product {
    const float *b, *bias;  // b packed by epam_pack
    int parts, k, n;        // k per part
    long lda, ld;           // floats from pixel to pixel in A, and in add and C
    bool relu;
};

template <int NV, int MR>
static inline void tile(const Product &p, const Row &row, long i, const float *b, int col) {
    v8 acc[MR][NV];
    for (int n = 0; n < NV; n++)
        for (int m = 0; m < MR; m++) acc[m][n] = load(p.bias + col + 8 * n);
    for (int part = 0; part < p.parts; part++) {
        const float *a = row.a[part] + i * p.lda;
        for (int k = 0; k < p.k; k++, b += 8 * NV) {
            v8 bv[NV];
            for (int n = 0; n < NV; n++) bv[n] = in_register(load(b + 8 * n));
            for (int m = 0; m < MR; m++) {
                v8 av = splat(a[m * p.lda + k]);
                for (int n = 0; n < NV; n++) acc[m][n] += av * bv[n];
            }
        }
    }
    for (int m = 0; m < MR; m++)
        for (int n = 0; n < NV; n++) {
            long at = (i + m) * p.ld + col + 8 * n;
            v8 v = acc[m][n];
            if (row.add) v += load(row.add + at);
            store(row.c + at, p.relu ? relu(v) : v);
        }
}

template <int NV, int MR>
static inline void rest(const Product &p, const Row &row, long i, long left, const float *b, int col) {
    if constexpr (MR > 0) {
        if (left == MR) tile<NV, MR>(p, row, i, b, col);
        else rest<NV, MR - 1>(p, row, i, left, b, col);
    }
}

template <int NV, int MR>
static void panel(const Product &p, const Row *rows, int count, long m, const float *b, int col) {
    for (int r = 0; r < count; r++) {
        long i = 0;
        for (; i + MR <= m; i += MR) tile<NV, MR>(p, rows[r], i, b, col);
        rest<NV, MR - 1>(p, rows[r], i, m - i, b, col);
    }
}

// Vectors in the next panel of `left` ones: 3 where that leaves no single one behind.
static inline int panel_width(int left) { return left == 1 ? 1 : left == 2 || left == 4 ? 2 : 3; }

// C = act(A B + bias + add) for `count` rows of m pixels.
static void multiply(const Product &p, const Row *rows, int count, long m) {
    const float *b = p.b;
    for (int left = p.n / 8; left > 0;) {
        int width = panel_width(left), col = p.n - 8 * left;
        if (width == 3) panel<3, 4>(p, rows, count, m, b, col);
        else if (width == 2) panel<2, 6>(p, rows, count, m, b, col);
        else panel<1, 8>(p, rows, count, m, b, col);
        b += static_cast<long>(p.parts) * p.k * 8 * width;
        left -= width;
    }
}

// ---------------------------------------------------------------- depthwise 3x3

// One output row from three padded input rows; adds it to the channels' sums, if any.
static void depthwise(const float *const rows[3], const float *w, const float *bias, int width,
                      int stride, int c, float *y, float *sums) {
    for (int ch = 0; ch < c; ch += 8) {
        v8 tap[9], sum = splat(0), b = load(bias + ch);
        for (int i = 0; i < 9; i++) tap[i] = load(w + i * c + ch);
        for (int x = 0; x < width; x++) {
            v8 part[3];
            for (int ky = 0; ky < 3; ky++) {
                const float *in = rows[ky] + static_cast<long>(x) * stride * c + ch;
                part[ky] = tap[3 * ky] * load(in);
                part[ky] += tap[3 * ky + 1] * load(in + c);
                part[ky] += tap[3 * ky + 2] * load(in + 2 * c);
            }
            v8 v = b + part[0] + part[1] + part[2];
            sum += v;
            store(y + static_cast<long>(x) * c + ch, v);
        }
        if (sums) store(sums + ch, load(sums + ch) + sum);
    }
}

// silu(from * factors) of `pixels` pixels; without factors in one go.
static void activate(const float *from, const float *factors, long pixels, int c, float *to) {
    if (!factors) {
        for (long i = 0; i < pixels * c; i += 8) store(to + i, silu(load(from + i)));
        return;
    }
    for (long i = 0; i < pixels; i++, from += c, to += c)
        for (int ch = 0; ch < c; ch += 8) store(to + ch, silu(load(from + ch) * load(factors + ch)));
}

// ---------------------------------------------------------------- what Python calls

extern "C" {

struct Block {
    int32_t t, h, w, stride, in, inner, out, fold, squeezed;
    const float *w1, *b1, *w2, *b2, *w3, *b3;
    const float *wd, *bd;                // downsample, or null
    const float *fc1, *fb1, *fc2, *fb2;  // (squeezed, inner), (inner, squeezed), or null
};

struct Stem {
    int32_t t, h, w, stride, in, out, is_u8;
    int64_t st, sh, sw, sc;  // of the frames, in elements
    float mean[3], scale[3];
    const float *weight, *bias;
};

// Lay B (k, n) out as multiply() reads it: panels of columns, each (k, 8 * width).
void epam_pack(const float *b, int32_t k, int32_t n, float *packed) {
    for (int left = n / 8; left > 0;) {
        int width = panel_width(left), col = n - 8 * left;
        for (int i = 0; i < k; i++, packed += 8 * width)
            std::memcpy(packed, b + static_cast<long>(i) * n + col, 8 * width * sizeof(float));
        left -= width;
    }
}

static const long BAND = 32 * 1024;  // floats of a core's cache that a block's rows may fill
static const int MAX_ROWS = 64;

struct Plan {
    int ho, wo, rows, ring;
    long row, sums, inner, shifted, band, ds, kept;
};

static Plan plan_of(const Block &q) {
    Plan p;
    p.ho = (q.h - 1) / q.stride + 1;
    p.wo = (q.w - 1) / q.stride + 1;
    p.row = static_cast<long>(q.w + 2) * q.inner;
    long per_row = q.stride * (p.row + static_cast<long>(q.w) * q.in) +
                   static_cast<long>(p.wo) * (q.inner + q.out);
    p.rows = static_cast<int>(std::max(1L, std::min<long>(p.ho, BAND / per_row)));
    p.rows = std::min(p.rows, (MAX_ROWS - 3) / q.stride + 1);
    p.ring = (p.rows - 1) * q.stride + 3;
    p.sums = 2L * q.inner + q.squeezed;
    p.inner = p.row * (p.ring + 1);  // one more: the row of zeros
    p.shifted = static_cast<long>(p.ring) * q.w * q.in;
    p.band = static_cast<long>(p.rows) * p.wo * q.inner;
    p.ds = q.wd ? static_cast<long>(p.rows) * p.wo * q.out : 0;
    p.kept = q.fc1 ? static_cast<long>(q.t) * p.ho * p.wo * q.inner : 0;
    return p;
}

int64_t epam_block_scratch(const Block *q) {
    Plan p = plan_of(*q);
    return p.sums + p.inner + p.shifted + p.band + p.ds + p.kept + 64;
}

// Rows y0.. of frame t: conv3 of `inner` plus the shortcut, into out.
static void narrow(const Block &q, const Plan &p, const float *x, int t, int y0, int count,
                   const float *inner, float *ds, float *out) {
    Row rows[MAX_ROWS], shortcut[MAX_ROWS];
    for (int r = 0; r < count; r++) {
        const float *from = x + (static_cast<long>(t) * q.h + (y0 + r) * q.stride) * q.w * q.in;
        float *mine = ds + static_cast<long>(r) * p.wo * q.out;
        shortcut[r] = Row{{from, nullptr, nullptr}, nullptr, mine};
        rows[r] = Row{{inner + static_cast<long>(r) * p.wo * q.inner, nullptr, nullptr},
                      q.wd ? mine : from,
                      out + (static_cast<long>(t) * p.ho + y0 + r) * p.wo * q.out};
    }
    if (q.wd)
        multiply(Product{q.wd, q.bd, 1, q.in, q.out, static_cast<long>(q.stride) * q.in, q.out, false},
                 shortcut, count, p.wo);
    multiply(Product{q.w3, q.b3, 1, q.inner, q.out, q.inner, q.out, true}, rows, count, p.wo);
}

// Row y of frame t with its channels shifted in time.
static void shift_row(const Block &q, const float *x, int t, int y, float *to) {
    const long n = static_cast<long>(q.w) * q.in, frame = q.h * n;
    const float *from = x + t * frame + y * n;
    std::memcpy(to, from, n * sizeof(float));
    for (int i = 0; i < q.w; i++, from += q.in, to += q.in)
        for (int c = 0; c < q.fold; c++) {
            to[c] = t + 1 < q.t ? from[frame + c] : 0.0f;
            to[q.fold + c] = t > 0 ? from[q.fold + c - frame] : 0.0f;
        }
}

void epam_block(const Block *args, const float *x, float *out, float *scratch) {
    const Block &q = *args;
    const Plan p = plan_of(q);
    float *sums = scratch, *factors = sums + q.inner, *hidden = factors + q.inner;
    float *ring = hidden + q.squeezed, *zeros = ring + p.row * p.ring;
    float *shifted = zeros + p.row, *band = shifted + p.shifted, *ds = band + p.band;
    float *kept = ds + p.ds;
    std::memset(sums, 0, q.inner * sizeof(float));
    std::memset(ring, 0, p.inner * sizeof(float));  // pads stay zero: only pixels are written
    const long out_row = static_cast<long>(p.wo) * q.inner;

    for (int t = 0; t < q.t; t++) {
        int next = 0;  // the first row of this frame that conv1 has not done
        for (int y0 = 0; y0 < p.ho; y0 += p.rows) {
            int count = std::min(p.rows, p.ho - y0);
            int last = std::min(q.h - 1, (y0 + count - 1) * q.stride + 1);
            Row rows[MAX_ROWS];
            int wide = 0;
            for (; next <= last; next++, wide++) {
                float *row = shifted + static_cast<long>(wide) * q.w * q.in;
                shift_row(q, x, t, next, row);
                rows[wide] = Row{{row, nullptr, nullptr}, nullptr,
                                 ring + (next % p.ring) * p.row + q.inner};
            }
            multiply(Product{q.w1, q.b1, 1, q.in, q.inner, q.in, q.inner, true}, rows, wide, q.w);
            float *to = q.fc1 ? kept + (static_cast<long>(t) * p.ho + y0) * out_row : band;
            for (int r = 0; r < count; r++) {
                const float *in[3];
                for (int k = 0; k < 3; k++) {
                    int y = (y0 + r) * q.stride + k - 1;
                    in[k] = y < 0 || y >= q.h ? zeros : ring + (y % p.ring) * p.row;
                }
                depthwise(in, q.w2, q.b2, p.wo, q.stride, q.inner, to + r * out_row,
                          q.fc1 ? sums : nullptr);
            }
            if (q.fc1) continue;
            activate(band, nullptr, static_cast<long>(count) * p.wo, q.inner, band);
            narrow(q, p, x, t, y0, count, band, ds, out);
        }
    }
    if (!q.fc1) return;

    const float share = 1.0f / (static_cast<float>(q.t) * p.ho * p.wo);
    for (int s = 0; s < q.squeezed; s++) {
        float v = 0;
        for (int c = 0; c < q.inner; c++) v += q.fc1[static_cast<long>(s) * q.inner + c] * sums[c];
        v = v * share + q.fb1[s];
        hidden[s] = v < 0 ? 0 : v;
    }
    for (int c = 0; c < q.inner; c++) {
        float v = q.fb2[c];
        for (int s = 0; s < q.squeezed; s++) v += q.fc2[static_cast<long>(c) * q.squeezed + s] * hidden[s];
        factors[c] = 1.0f / (1.0f + __builtin_expf(-v));
    }
    for (int t = 0; t < q.t; t++)
        for (int y0 = 0; y0 < p.ho; y0 += p.rows) {
            int count = std::min(p.rows, p.ho - y0);
            const float *from = kept + (static_cast<long>(t) * p.ho + y0) * out_row;
            activate(from, factors, static_cast<long>(count) * p.wo, q.inner, band);
            narrow(q, p, x, t, y0, count, band, ds, out);
        }
}

int64_t epam_stem_scratch(const Stem *q) { return 4L * (q->w + 2) * q->in; }

// 3x3 convolution and ReLU of frames in any layout, float32 or u8 (normalised here).
void epam_stem(const Stem *args, const void *frames, float *out, float *scratch) {
    const Stem &q = *args;
    const int ho = (q.h - 1) / q.stride + 1, wo = (q.w - 1) / q.stride + 1;
    const long n = static_cast<long>(q.w + 2) * q.in;
    float *zeros = scratch + 3 * n;
    std::memset(scratch, 0, 4 * n * sizeof(float));
    const Product product{q.weight, q.bias, 3, 3 * q.in, q.out, static_cast<long>(q.stride) * q.in,
                          q.out, true};
    for (int t = 0; t < q.t; t++) {
        int next = 0;
        for (int y0 = 0; y0 < ho; y0++) {
            for (int last = std::min(q.h - 1, y0 * q.stride + 1); next <= last; next++) {
                float *row = scratch + (next % 3) * n + q.in;
                const int64_t at = t * q.st + next * q.sh;
                for (int c = 0; c < q.in; c++)
                    for (int i = 0; i < q.w; i++) {
                        const int64_t k = at + i * q.sw + c * q.sc;
                        row[static_cast<long>(i) * q.in + c] =
                            q.is_u8 ? (static_cast<const uint8_t *>(frames)[k] - q.mean[c]) * q.scale[c]
                                    : static_cast<const float *>(frames)[k];
                    }
            }
            Row row{{}, nullptr, out + (static_cast<long>(t) * ho + y0) * wo * q.out};
            for (int k = 0; k < 3; k++) {
                int y = y0 * q.stride + k - 1;
                row.a[k] = y < 0 || y >= q.h ? zeros : scratch + (y % 3) * n;
            }
            multiply(product, &row, 1, wo);
        }
    }
}

// 1x1 convolution and ReLU of `pixels` pixels.
void epam_head(const float *x, const float *w, const float *bias, int64_t pixels, int32_t in,
               int32_t out, float *y) {
    for (int64_t i = 0; i < pixels; i += 48) {
        Row row{{x + i * in, nullptr, nullptr}, nullptr, y + i * out};
        multiply(Product{w, bias, 1, in, out, in, out, true}, &row, 1, std::min<int64_t>(48, pixels - i));
    }
}

}  // extern "C"
