// One X3D stream on a CPU, a few image rows at a time, so that what lies between a block's three
// convolutions never leaves the core's own cache. Built and called by native.py.
//
// Arrays are (T, H, W, C) with C a multiple of 8, in float32 or, where the processor multiplies
// it, bfloat16; sums are float32. Every function runs in the calling thread and touches only what
// it is given: threads may call it at the same time with scratch of their own.

#include <vector>

#include "native_math.h"

// ---------------------------------------------------------------- depthwise 3x3

// X outputs, side by side, of one vector of channels: from three padded input rows of `pixel`
// values a pixel, with SiLU where `active`. Returns the sum of what they were before that.
template <class V, int X, int STRIDE, bool active, class E>
static inline V outputs(const float *const rows[3], long at, long pixel, const V (&tap)[9], V bias,
                        E *to, long c) {
    V y[X], sum = all<V>(0);
    UNROLL for (int x = 0; x < X; x++) y[x] = bias;
    UNROLL for (int ky = 0; ky < 3; ky++) {
        constexpr int N = (X - 1) * STRIDE + 3;
        V in[N];
        UNROLL for (int i = 0; i < N; i++) in[i] = in_register(load_as<V>(rows[ky] + at + i * pixel));
        UNROLL for (int kx = 0; kx < 3; kx++)
            UNROLL for (int x = 0; x < X; x++) y[x] += tap[3 * ky + kx] * in[x * STRIDE + kx];
    }
    if constexpr (active) silu<E>(y);
    else UNROLL for (int x = 0; x < X; x++) sum += y[x];
    UNROLL for (int x = 0; x < X; x++) store(to + x * c, y[x]);
    return sum;
}

// Some output rows of one vector of channels; weights and `to` have c values a pixel. What they
// are before SiLU is added to `sums` where it is not `active`.
template <class V, int X, int STRIDE, bool active, class E>
static void depthwise(const float *const (*rows)[3], int count, int width, int stride, long pixel,
                      const float *taps, const float *biases, E *to, long c, float *sums) {
    V sum = all<V>(0), tap[9];
    const V bias = load_as<V>(biases);
    for (int i = 0; i < 9; i++) tap[i] = in_register(load_as<V>(taps + i * c));
    for (int r = 0; r < count; r++) {
        int x = 0;
        for (; x + X <= width; x += X, to += X * c)
            sum += outputs<V, X, STRIDE, active>(rows[r], x * stride * pixel, pixel, tap, bias, to, c);
        for (; x < width; x++, to += c)
            sum += outputs<V, 1, STRIDE, active>(rows[r], x * stride * pixel, pixel, tap, bias, to, c);
    }
    if (!active) store(sums, load_as<V>(sums) + sum);
}

// silu(from * factors) of `count` vectors of channels.
template <class V, class E>
static inline void excite(const E *from, const float *factors, int count, E *to) {
    constexpr int N = 4, SIZE = sizeof(V) / sizeof(float);
    for (; count > 0; count -= N, from += N * SIZE, factors += N * SIZE, to += N * SIZE)
        with_width<N>(std::min(N, count), [&](auto vectors) {
            constexpr int M = decltype(vectors)::value;
            V y[M];
            UNROLL for (int i = 0; i < M; i++)
                y[i] = load_as<V>(from + i * SIZE) * load_as<V>(factors + i * SIZE);
            silu<E>(y);
            UNROLL for (int i = 0; i < M; i++) store(to + i * SIZE, y[i]);
        });
}

// silu(from * factors) of `pixels` pixels.
template <class E>
static void excite_all(const E *from, const float *factors, long pixels, int c, E *to) {
    const int first = c / (8 * WIDE) * 8 * WIDE;
    for (long i = 0; i < pixels; i++, from += c, to += c) {
        excite<wide>(from, factors, first / (8 * WIDE), to);
        excite<v8>(from + first, factors + first, (c - first) / 8, to + first);
    }
}

// ---------------------------------------------------------------- what Python fills in

extern "C" {

struct Block {
    int32_t t, h, w, stride, in, inner, out, fold, squeezed, widened;
    const void *w1, *w3;  // packed: conv1, in the shift's order; conv3 and then downsample
    const float *b1, *w2, *b2, *b3;
    const float *fc1, *fb1, *fc2, *fb2;  // (squeezed, inner), (inner, squeezed), or null
};

struct Stem {
    int32_t t, h, w, stride, in, out, is_u8;
    int64_t st, sh, sw, sc;  // of the frames, in elements
    float mean[3], scale[3];
    const float *weight, *bias;  // packed, (in, 3, 3, out)
};
}

// ---------------------------------------------------------------- a block

static const long BAND = 64 * 1024;  // floats of a core's cache that a block's rows may fill
static const int MAX_ROWS = 64;  // of a band

template <class E> static int steps(int k) { return (k + Step<E>::size - 1) / Step<E>::size; }
static inline long lines(long bytes) { return (bytes + 127) / 64 * 64; }  // with room to read past

// Where a block's arrays lie in its scratch, in bytes.
struct Plan {
    int ho, wo, rows, ring;
    long factors, hidden, ring_at, zeros, band, shift, plain, kept, bytes;
};

template <class E> static Plan plan_of(const Block &q) {
    Plan p;
    p.ho = (q.h - 1) / q.stride + 1;
    p.wo = (q.w - 1) / q.stride + 1;
    const long row = static_cast<long>(q.w + 2) * q.inner;
    long per_row = q.stride * (row + static_cast<long>(q.w) * q.in) +
                   static_cast<long>(p.wo) * (q.inner + q.out);
    p.rows = static_cast<int>(std::max(1L, std::min<long>(p.ho, BAND / per_row)));
    p.rows = std::min(p.rows, (MAX_ROWS - 3) / q.stride + 1);
    p.ring = (p.rows - 1) * q.stride + 3;
    const long f = sizeof(float), band = static_cast<long>(p.wo) * q.inner * sizeof(E);
    p.factors = lines(q.inner * f);  // after the sums
    p.hidden = p.factors + lines(q.inner * f);
    p.ring_at = p.hidden + lines(q.squeezed * f);
    p.zeros = p.ring_at + lines(row * p.ring * f);
    p.band = p.zeros + lines(static_cast<long>(q.w + 2) * 24 * f);
    p.shift = p.band + lines(p.rows * band);
    p.plain = p.shift + lines((q.in + 2) * sizeof(int32_t));
    p.kept = p.plain + lines(std::max(q.inner, q.in) * sizeof(int32_t));
    p.bytes = p.kept + (q.fc1 ? lines(static_cast<long>(q.t) * p.ho * band) : 0);
    return p;
}

template <class E> struct Running {
    const Block &q;
    const Plan p;
    float *sums, *factors, *hidden, *ring, *zeros;
    int32_t *shift, *plain;  // where a pixel's values are: conv1's, in three frames; all in a row
    E *band, *kept;

    Running(const Block &q, char *scratch) : q(q), p(plan_of<E>(q)) {
        std::memset(scratch, 0, p.band);  // the ring's pads stay zero: only pixels are written
        sums = reinterpret_cast<float *>(scratch);
        factors = reinterpret_cast<float *>(scratch + p.factors);
        hidden = reinterpret_cast<float *>(scratch + p.hidden);
        ring = reinterpret_cast<float *>(scratch + p.ring_at);
        zeros = reinterpret_cast<float *>(scratch + p.zeros);
        band = reinterpret_cast<E *>(scratch + p.band);
        shift = reinterpret_cast<int32_t *>(scratch + p.shift);
        plain = reinterpret_cast<int32_t *>(scratch + p.plain);
        kept = reinterpret_cast<E *>(scratch + p.kept);
        const int frame = q.h * q.w * q.in;
        int32_t *to = shift;
        for (int i = 0; i < q.fold; i += Step<E>::size) *to++ = q.fold + i - frame;
        for (int i = 2 * q.fold; i < q.in; i += Step<E>::size) *to++ = i;
        for (int i = 0; i < q.fold; i += Step<E>::size) *to++ = i + frame;
        for (int i = 0; i < std::max(q.inner, q.in); i += Step<E>::size) plain[i / Step<E>::size] = i;
    }

    // conv1 of row y of frame t. Its columns are those from the frame before, its own, those from
    // the frame after.
    Row<E, float> shifted(const E *x, int t, int y) const {
        const E *here = x + (static_cast<long>(t) * q.h + y) * q.w * q.in;
        const int moved = steps<E>(q.fold), own = steps<E>(q.in - 2 * q.fold);
        const int from = t > 0 ? 0 : moved, to = moved + own + (t + 1 < q.t ? moved : 0);
        return {{{here, q.in, shift + from, to - from, from}}, nullptr, nullptr};
    }
};

// Rows y0.. of frame t: conv3 of `inner` plus the shortcut, into out.
template <class E>
static void narrow(const Running<E> &run, const E *x, int t, int y0, int count, const E *inner, E *out) {
    const Block &q = run.q;
    const Plan &p = run.p;
    const int k3 = steps<E>(q.inner), k_in = steps<E>(q.in);
    const Product<E> product{static_cast<const E *>(q.w3), q.b3, q.out, q.widened ? 2 : 1,
                             q.widened ? k3 + k_in : k3};
    Row<E, E> rows[MAX_ROWS];
    for (int r = 0; r < count; r++) {
        const E *from = x + (static_cast<long>(t) * q.h + (y0 + r) * q.stride) * q.w * q.in;
        rows[r] = {{{inner + static_cast<long>(r) * p.wo * q.inner, q.inner, run.plain, k3, 0},
                    {from, static_cast<long>(q.stride) * q.in, run.plain, k_in, k3}},
                   q.widened ? nullptr : from,
                   out + (static_cast<long>(t) * p.ho + y0 + r) * p.wo * q.out};
    }
    Ahead ahead;
    const int then = std::min(count, p.ho - y0 - count);
    const long at = static_cast<long>(t) * p.ho + y0 + count;
    ahead.add(out + at * p.wo * q.out, then * p.wo * q.out * sizeof(E));
    if (q.fc1) {
        ahead.add(run.kept + at * p.wo * q.inner, then * p.wo * q.inner * sizeof(E));
        ahead.add(rows[0].parts[1].a + count * q.stride * q.w * q.in, then * q.stride * q.w * q.in * sizeof(E));
    }
    if (q.stride == 1) multiply(product, rows, 1, static_cast<long>(count) * p.wo, ahead);
    else multiply(product, rows, count, p.wo, ahead);
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

// Rows y0.. of frame t, of which conv1 has done all before `next`: conv1 and depthwise, into `to`.
template <class E>
static int widen(const Running<E> &run, const E *x, int t, int y0, int count, int next, E *to) {
    const Block &q = run.q;
    const Plan &p = run.p;
    const Product<E> product{static_cast<const E *>(q.w1), q.b1, q.inner, 1,
                             2 * steps<E>(q.fold) + steps<E>(q.in - 2 * q.fold)};
    const int end = std::min(q.h, (y0 + count - 1) * q.stride + 2);
    Row<E, float> rows[MAX_ROWS];
    for (int y = next; y < end; y++) rows[y - next] = run.shifted(x, t, y);
    Ahead ahead;
    const long band = static_cast<long>(count) * q.stride * q.w * q.in;
    const E *then = x + (static_cast<long>(t) * q.h + end) * q.w * q.in;
    if (end < q.h || t + 1 < q.t) ahead.add(then, band * sizeof(E));
    if (t + 1 < q.t) ahead.add(then + static_cast<long>(q.h) * q.w * q.in, band * sizeof(E));
    if (q.fc1) ahead.add(to + static_cast<long>(count) * p.wo * q.inner, count * p.wo * q.inner * sizeof(E));
    ahead.spread((end - next) * tiles_of(q.w, q.inner));
    panels(q.inner, [&](auto nv, int col) {
        constexpr int NV = decltype(nv)::value;
        const long row = static_cast<long>(q.w + 2) * 8 * NV;
        float *ring = run.ring + static_cast<long>(q.w + 2) * p.ring * col;
        for (int y = next; y < end; y++) rows[y - next].c = ring + (y % p.ring) * row + 8 * NV;
        panel<NV>(product, rows, end - next, q.w, col, 8 * NV, 0, ahead);
        const float *in[MAX_ROWS][3];
        for (int v = 0; v < NV;) {
            const int c = col + 8 * v;
            for (int r = 0; r < count; r++)
                for (int k = 0; k < 3; k++) {
                    const int y = (y0 + r) * q.stride + k - 1;
                    in[r][k] = (y < 0 || y >= q.h ? run.zeros : ring + (y % p.ring) * row) + 8 * v;
                }
            auto filter = [&](auto vector, auto stride) {
                typedef decltype(vector) V;
                constexpr int STRIDE = decltype(stride)::value, X = STRIDE ? 7 : 1;
                if (q.fc1) depthwise<V, X, STRIDE, false>(in, count, p.wo, q.stride, 8 * NV, q.w2 + c, q.b2 + c, to + c, q.inner, run.sums + c);
                else depthwise<V, X, STRIDE, true>(in, count, p.wo, q.stride, 8 * NV, q.w2 + c, q.b2 + c, to + c, q.inner, nullptr);
            };
            auto filter_any = [&](auto vector) {
                if (q.stride == 1) filter(vector, Width<1>{});
                else if (q.stride == 2) filter(vector, Width<2>{});
                else filter(vector, Width<0>{});
            };
            if (v + WIDE <= NV) filter_any(wide{}), v += WIDE;
            else filter_any(v8{}), v++;
        }
    });
    return end;
}

template <class E> static void block(const Block &q, const E *x, E *out, char *scratch) {
    const Running<E> run(q, scratch);
    const Plan &p = run.p;
    const long out_row = static_cast<long>(p.wo) * q.inner;

    for (int t = 0; t < q.t; t++)
        for (int y0 = 0, next = 0; y0 < p.ho; y0 += p.rows) {
            const int count = std::min(p.rows, p.ho - y0);
            E *to = q.fc1 ? run.kept + (static_cast<long>(t) * p.ho + y0) * out_row : run.band;
            next = widen(run, x, t, y0, count, next, to);
            if (!q.fc1) narrow(run, x, t, y0, count, run.band, out);
        }
    if (!q.fc1) return;

    factors_of(q, 1.0f / (static_cast<float>(q.t) * p.ho * p.wo), run.sums, run.hidden, run.factors);
    for (int t = 0; t < q.t; t++)
        for (int y0 = 0; y0 < p.ho; y0 += p.rows) {
            const int count = std::min(p.rows, p.ho - y0);
            const E *from = run.kept + (static_cast<long>(t) * p.ho + y0) * out_row;
            excite_all(from, run.factors, static_cast<long>(count) * p.wo, q.inner, run.band);
            narrow(run, x, t, y0, count, run.band, out);
        }
}

// ---------------------------------------------------------------- stem and head

static const int SPAN = 8;  // pixels of a row that are known to be zero together

// Where a stem's arrays lie in its scratch, in bytes.
struct StemPlan {
    long row, mean, scale, plain, used, bytes;
};

static StemPlan plan_of(const Stem &q) {
    StemPlan p;
    p.row = (q.w + 2 + SPAN - 1) / SPAN * SPAN;
    const long pixels = lines(static_cast<long>(q.w) * q.in * sizeof(float));
    p.mean = lines(4 * p.row * q.in * sizeof(float));
    p.scale = p.mean + pixels;
    p.plain = p.scale + pixels;
    p.used = p.plain + lines(static_cast<long>(q.w) * q.in);
    p.bytes = p.used + lines(4L * q.in * sizeof(uint64_t));
    return p;
}

// A bit for each span of a row, the last for all that follow.
static inline uint64_t bit(long span) { return 1ull << std::min(span, 63L); }

// 3x3 convolution and ReLU of frames in any layout: u8, normalised here, or float32, of which a
// tile leaves out the channels that are zero in it, as heatmaps are almost everywhere.
template <class E> static void stem(const Stem &q, const void *frames, E *out, char *scratch) {
    const StemPlan p = plan_of(q);
    const int ho = (q.h - 1) / q.stride + 1, wo = (q.w - 1) / q.stride + 1;
    // Three padded rows, row y in place y % 3, and one of zeros. u8 pixels keep their channels
    // side by side; of others each channel is a plane.
    float *values = reinterpret_cast<float *>(scratch);
    float *mean = reinterpret_cast<float *>(scratch + p.mean);
    float *scale = reinterpret_cast<float *>(scratch + p.scale);
    uint8_t *plain = reinterpret_cast<uint8_t *>(scratch + p.plain);
    uint64_t *used = reinterpret_cast<uint64_t *>(scratch + p.used);
    const long pixel = q.is_u8 ? q.in : 1, row = p.row * pixel, plane = q.is_u8 ? 1 : 4 * row;
    const long values_of_row = static_cast<long>(q.w) * q.in;
    std::memset(scratch, 0, p.bytes);
    if (q.is_u8)
        for (long i = 0; i < values_of_row; i++) mean[i] = q.mean[i % q.in], scale[i] = q.scale[i % q.in];
    std::vector<Part<float>> parts(q.in);
    std::vector<int> active(q.in);
    for (int c = 0; c < q.in; c++) active[c] = c;
    int many = q.in;
    for (int t = 0; t < q.t; t++)
        for (int y0 = 0, next = 0; y0 < ho; y0++) {
            for (int end = std::min(q.h, y0 * q.stride + 2); next < end; next++) {
                const int64_t from = t * q.st + next * q.sh;
                float *to = values + next % 3 * row + pixel;
                if (q.is_u8) {
                    const uint8_t *u8 = static_cast<const uint8_t *>(frames) + from;
                    if (q.sc != 1 || q.sw != q.in) {
                        for (int i = 0; i < q.w; i++)
                            for (int c = 0; c < q.in; c++) plain[i * q.in + c] = u8[i * q.sw + c * q.sc];
                        u8 = plain;
                    }
                    for (long i = 0; i < values_of_row; i++) to[i] = (u8[i] - mean[i]) * scale[i];
                    continue;
                }
                for (int c = 0; c < q.in; c++, to += plane) {
                    const float *f = static_cast<const float *>(frames) + from + c * q.sc;
                    for (int i = 0; i < q.w; i += 16) __builtin_prefetch(f + 3 * q.sh + i);
                    if (q.sw == 1) std::memcpy(to, f, q.w * sizeof(float));
                    else for (int i = 0; i < q.w; i++) to[i] = f[i * q.sw];
                    uint64_t mask = 0;
                    for (long i = 0; i < p.row / SPAN; i++) {
                        uint64_t bits[SPAN / 2];
                        std::memcpy(bits, to - 1 + i * SPAN, sizeof bits);
                        if (bits[0] | bits[1] | bits[2] | bits[3]) mask |= bit(i);
                    }
                    used[4 * c + next % 3] = mask;
                }
            }
            int32_t at[9];
            int slot[3];
            for (int k = 0; k < 3; k++) {
                const int y = y0 * q.stride + k - 1;
                slot[k] = y < 0 || y >= q.h ? 3 : y % 3;
                for (int kx = 0; kx < 3; kx++) at[3 * k + kx] = static_cast<int32_t>(slot[k] * row + kx * pixel);
            }
            if (!q.is_u8) {
                many = 0;
                for (int c = 0; c < q.in; c++) {
                    const uint64_t *u = used + 4 * c;
                    u[slot[0]] | u[slot[1]] | u[slot[2]] ? active[many++] = c : 0;
                }
            }
            E *to = out + (static_cast<long>(t) * ho + y0) * wo * q.out;
            constexpr int MOST = tile_rows(3);
            const int tiles = (wo + MOST - 1) / MOST, size = (wo + tiles - 1) / tiles;
            for (int x = 0; x < wo; x += size) {
                const int width = std::min(size, wo - x);
                const uint64_t last = bit(((x + width - 1) * q.stride + 2) / SPAN);
                const uint64_t mask = last | (last - bit(x * q.stride / SPAN));
                int count = 0;
                for (int i = 0; i < many; i++) {
                    const int c = active[i];
                    const uint64_t *u = used + 4 * c;
                    if (q.is_u8 || ((u[slot[0]] | u[slot[1]] | u[slot[2]]) & mask))
                        parts[count++] = {values + c * plane, q.stride * pixel, at, 9, 9 * c};
                }
                E *here = to + static_cast<long>(x) * q.out;
                for (long i = 0; i < width * q.out; i += 64 / sizeof(E))
                    __builtin_prefetch(here + static_cast<long>(wo) * q.out + i);
                panels(q.out, [&](auto nv, int col) {
                    with_width<MOST>(width, [&](auto mr) {
                        tile<decltype(nv)::value, decltype(mr)::value, float, E>(
                            parts.data(), count, x, q.weight + 9L * q.in * col, q.bias + col, nullptr,
                            here + col, q.out);
                    });
                });
            }
        }
}

// 1x1 convolution and ReLU of `pixels` pixels.
template <class E>
static void head(const E *x, const E *w, const float *bias, long pixels, int in, int out, E *y) {
    const Product<E> product{w, bias, out, 1, steps<E>(in)};
    Ahead none;
    int32_t *plain = new int32_t[steps<E>(in)];
    for (int i = 0; i < steps<E>(in); i++) plain[i] = i * Step<E>::size;
    for (long i = 0; i < pixels; i += 48) {
        Row<E, E> row{{{x + i * in, in, plain, steps<E>(in), 0}}, nullptr, y + i * out};
        multiply(product, &row, 1, std::min<long>(48, pixels - i), none);
    }
    delete[] plain;
}

// ---------------------------------------------------------------- what Python calls

#define EXPORT(E, NAME)                                                                            \
    void epam_pack_##NAME(const float *b, int32_t k, int32_t n, E *packed) { pack(b, k, n, packed); } \
    int64_t epam_block_scratch_##NAME(const Block *q) { return plan_of<E>(*q).bytes; }             \
    int64_t epam_stem_scratch_##NAME(const Stem *q) { return plan_of(*q).bytes; }                  \
    void epam_stem_##NAME(const Stem *q, const void *frames, E *out, char *scratch) {              \
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
