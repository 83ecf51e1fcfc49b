// One X3D stream on a CPU, a few image rows at a time, so that what lies between a block's three
// convolutions never leaves the core's own cache. Built and called by native.py.
//
// Arrays are (T, H, W, C) with C a multiple of 8, in float32 or, where the processor multiplies
// it, bfloat16; sums are float32. Every function runs in the calling thread and touches only what
// it is given: threads may call it at the same time with scratch of their own.

#include "native_math.h"

// ---------------------------------------------------------------- depthwise 3x3

// One output row from three padded input rows, with SiLU where `active`; adds what it was before
// that to the channels' sums, if any.
template <bool active, class E>
static void depthwise(const float *const rows[3], const float *w, const float *bias, int width,
                      int stride, int c, E *y, float *sums) {
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
            store(y + static_cast<long>(x) * c + ch, active ? silu<E>(v) : v);
        }
        if (sums) store(sums + ch, load(sums + ch) + sum);
    }
}

// silu(from * factors) of `pixels` pixels.
template <class E>
static void excite(const E *from, const float *factors, long pixels, int c, E *to) {
    for (long i = 0; i < pixels; i++, from += c, to += c)
        for (int ch = 0; ch < c; ch += 8) store(to + ch, silu<E>(load(from + ch) * load(factors + ch)));
}

// ---------------------------------------------------------------- what Python fills in

extern "C" {

struct Block {
    int32_t t, h, w, stride, in, inner, out, fold, squeezed, widened;
    const void *w1, *w3;  // packed: conv1 with the shift in its rows, conv3 and then downsample
    const float *b1, *w2, *b2, *b3;
    const float *fc1, *fb1, *fc2, *fb2;  // (squeezed, inner), (inner, squeezed), or null
};

struct Stem {
    int32_t t, h, w, stride, in, out, is_u8;
    int64_t st, sh, sw, sc;  // of the frames, in elements
    float mean[3], scale[3];
    const void *weight;
    const float *bias;
};
}

// ---------------------------------------------------------------- a block

static const long BAND = 32 * 1024;  // floats of a core's cache that a block's rows may fill
static const int MAX_ROWS = 64;

template <class E> static int even(int k) { return (k + Step<E>::size - 1) / Step<E>::size * Step<E>::size; }
static inline long lines(long bytes) { return (bytes + 127) / 64 * 64; }  // with room to read past

// Where a block's arrays lie in its scratch, in bytes.
struct Plan {
    int ho, wo, rows, ring;
    long row, factors, hidden, ring_at, zeros, nothing, band, kept, bytes;
};

template <class E> static Plan plan_of(const Block &q) {
    Plan p;
    p.ho = (q.h - 1) / q.stride + 1;
    p.wo = (q.w - 1) / q.stride + 1;
    p.row = static_cast<long>(q.w + 2) * q.inner;
    long per_row = q.stride * (p.row + static_cast<long>(q.w) * q.in) +
                   static_cast<long>(p.wo) * (q.inner + q.out);
    p.rows = static_cast<int>(std::max(1L, std::min<long>(p.ho, BAND / per_row)));
    p.rows = std::min(p.rows, (MAX_ROWS - 3) / q.stride + 1);
    p.ring = (p.rows - 1) * q.stride + 3;
    const long f = sizeof(float), e = sizeof(E), band = static_cast<long>(p.wo) * q.inner * e;
    p.factors = lines(q.inner * f);  // after the sums
    p.hidden = p.factors + lines(q.inner * f);
    p.ring_at = p.hidden + lines(q.squeezed * f);
    p.zeros = p.ring_at + lines(p.row * p.ring * f);
    p.nothing = p.zeros + lines(p.row * f);
    p.band = p.nothing + lines(static_cast<long>(q.w) * q.in * e);
    p.kept = p.band + lines(p.rows * band);
    p.bytes = p.kept + (q.fc1 ? lines(static_cast<long>(q.t) * p.ho * band) : 0);
    return p;
}

// Rows y0.. of frame t: conv3 of `inner` plus the shortcut, into out.
template <class E>
static void narrow(const Block &q, const Plan &p, const E *x, int t, int y0, int count,
                   const E *inner, E *out) {
    Product<E> product{static_cast<const E *>(q.w3), q.b3, q.out, q.widened ? 2 : 1,
                       {q.inner, q.in}, {q.inner, static_cast<long>(q.stride) * q.in}};
    Row<E, E> rows[MAX_ROWS];
    for (int r = 0; r < count; r++) {
        const E *from = x + (static_cast<long>(t) * q.h + (y0 + r) * q.stride) * q.w * q.in;
        rows[r] = Row<E, E>{{inner + static_cast<long>(r) * p.wo * q.inner, from, nullptr},
                            q.widened ? nullptr : from,
                            out + (static_cast<long>(t) * p.ho + y0 + r) * p.wo * q.out};
    }
    if (q.stride == 1) multiply(product, rows, 1, static_cast<long>(count) * p.wo);
    else multiply(product, rows, count, p.wo);
}

// conv1 of row y of frame t, whose channels come from three moments: `fold` of them from the frame
// after, `fold` from the one before, the others from its own.
template <class E>
static Row<E, float> shifted(const Block &q, const E *x, const E *nothing, int t, int y, float *to) {
    const long frame = static_cast<long>(q.h) * q.w * q.in;
    const E *here = x + t * frame + static_cast<long>(y) * q.w * q.in;
    const E *ahead = t + 1 < q.t ? here + frame : nothing, *behind = t > 0 ? here - frame : nothing;
    return Row<E, float>{{ahead, behind + q.fold, here + 2 * q.fold}, nullptr, to};
}

static void factors_of(const Block &q, float share, const float *sums, float *hidden, float *factors) {
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
}

template <class E> static void block(const Block &q, const E *x, E *out, char *scratch) {
    const Plan p = plan_of<E>(q);
    float *sums = reinterpret_cast<float *>(scratch);
    float *factors = reinterpret_cast<float *>(scratch + p.factors);
    float *hidden = reinterpret_cast<float *>(scratch + p.hidden);
    float *ring = reinterpret_cast<float *>(scratch + p.ring_at);
    float *zeros = reinterpret_cast<float *>(scratch + p.zeros);
    E *nothing = reinterpret_cast<E *>(scratch + p.nothing);
    E *band = reinterpret_cast<E *>(scratch + p.band), *kept = reinterpret_cast<E *>(scratch + p.kept);
    std::memset(scratch, 0, p.band);  // the ring's pads stay zero: only pixels are written
    const long out_row = static_cast<long>(p.wo) * q.inner;
    const Product<E> widen{static_cast<const E *>(q.w1), q.b1, q.inner, 3,
                           {even<E>(q.fold), even<E>(q.fold), q.in - 2 * q.fold},
                           {q.in, q.in, q.in}};

    for (int t = 0; t < q.t; t++) {
        int next = 0;  // the first row of this frame that conv1 has not done
        for (int y0 = 0; y0 < p.ho; y0 += p.rows) {
            int count = std::min(p.rows, p.ho - y0);
            int last = std::min(q.h - 1, (y0 + count - 1) * q.stride + 1);
            Row<E, float> rows[MAX_ROWS];
            int wide = 0;
            for (; next <= last; next++)
                rows[wide++] = shifted(q, x, nothing, t, next, ring + (next % p.ring) * p.row + q.inner);
            multiply(widen, rows, wide, q.w);
            E *to = q.fc1 ? kept + (static_cast<long>(t) * p.ho + y0) * out_row : band;
            for (int r = 0; r < count; r++, to += out_row) {
                const float *in[3];
                for (int k = 0; k < 3; k++) {
                    int y = (y0 + r) * q.stride + k - 1;
                    in[k] = y < 0 || y >= q.h ? zeros : ring + (y % p.ring) * p.row;
                }
                if (q.fc1) depthwise<false>(in, q.w2, q.b2, p.wo, q.stride, q.inner, to, sums);
                else depthwise<true>(in, q.w2, q.b2, p.wo, q.stride, q.inner, to, nullptr);
            }
            if (!q.fc1) narrow(q, p, x, t, y0, count, band, out);
        }
    }
    if (!q.fc1) return;

    factors_of(q, 1.0f / (static_cast<float>(q.t) * p.ho * p.wo), sums, hidden, factors);
    for (int t = 0; t < q.t; t++)
        for (int y0 = 0; y0 < p.ho; y0 += p.rows) {
            int count = std::min(p.rows, p.ho - y0);
            const E *from = kept + (static_cast<long>(t) * p.ho + y0) * out_row;
            excite(from, factors, static_cast<long>(count) * p.wo, q.inner, band);
            narrow(q, p, x, t, y0, count, band, out);
        }
}

// ---------------------------------------------------------------- stem and head

// 3x3 convolution and ReLU of frames in any layout, float32 or u8 (normalised here).
template <class E> static void stem(const Stem &q, const void *frames, E *out, E *scratch) {
    const int ho = (q.h - 1) / q.stride + 1, wo = (q.w - 1) / q.stride + 1;
    const long n = static_cast<long>(q.w + 2) * q.in;
    const int k = even<E>(3 * q.in);  // what is read too much meets zeros in the weights
    const long lda = static_cast<long>(q.stride) * q.in;
    E *zeros = scratch + 3 * n;
    const Product<E> product{static_cast<const E *>(q.weight), q.bias, q.out, 3, {k, k, k},
                             {lda, lda, lda}};
    for (long i = 0; i < 4 * n + 8; i++) set(scratch + i, 0);
    for (int t = 0; t < q.t; t++) {
        int next = 0;
        for (int y0 = 0; y0 < ho; y0++) {
            for (int last = std::min(q.h - 1, y0 * q.stride + 1); next <= last; next++) {
                E *row = scratch + (next % 3) * n + q.in;
                const int64_t at = t * q.st + next * q.sh;
                for (int c = 0; c < q.in; c++)
                    for (int i = 0; i < q.w; i++) {
                        const int64_t from = at + i * q.sw + c * q.sc;
                        set(row + static_cast<long>(i) * q.in + c,
                            q.is_u8 ? (static_cast<const uint8_t *>(frames)[from] - q.mean[c]) * q.scale[c]
                                    : static_cast<const float *>(frames)[from]);
                    }
            }
            Row<E, E> row{{}, nullptr, out + (static_cast<long>(t) * ho + y0) * wo * q.out};
            for (int i = 0; i < 3; i++) {
                int y = y0 * q.stride + i - 1;
                row.a[i] = y < 0 || y >= q.h ? zeros : scratch + (y % 3) * n;
            }
            multiply(product, &row, 1, wo);
        }
    }
}

// 1x1 convolution and ReLU of `pixels` pixels.
template <class E>
static void head(const E *x, const E *w, const float *bias, long pixels, int in, int out, E *y) {
    const Product<E> product{w, bias, out, 1, {in}, {in}};
    for (long i = 0; i < pixels; i += 48) {
        Row<E, E> row{{x + i * in}, nullptr, y + i * out};
        multiply(product, &row, 1, std::min<long>(48, pixels - i));
    }
}

// ---------------------------------------------------------------- what Python calls

#define EXPORT(E, NAME)                                                                            \
    void epam_pack_##NAME(const float *b, int32_t k, int32_t n, E *packed) { pack(b, k, n, packed); } \
    int64_t epam_block_scratch_##NAME(const Block *q) { return plan_of<E>(*q).bytes; }             \
    int64_t epam_stem_scratch_##NAME(const Stem *q) {                                              \
        return (4L * (q->w + 2) * q->in + 8) * static_cast<long>(sizeof(E));                       \
    }                                                                                              \
    void epam_stem_##NAME(const Stem *q, const void *frames, E *out, E *scratch) {                 \
        stem(*q, frames, out, scratch);                                                            \
    }                                                                                              \
    void epam_block_##NAME(const Block *q, const E *x, E *out, char *scratch) {                    \
        block(*q, x, out, scratch);                                                                \
    }                                                                                              \
    void epam_head_##NAME(const E *x, const E *w, const float *bias, int64_t pixels, int32_t in,   \
                          int32_t out, E *y) {                                                     \
        head(x, w, bias, pixels, in, out, y);                                                      \
    }

extern "C" {
EXPORT(float, float32)
#if defined(EPAM_BF16)
EXPORT(bf16, bfloat16)
#endif
}
