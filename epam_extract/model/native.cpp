// One X3D stream on a CPU, a few image rows at a time, so that what lies between a block's three
// convolutions never leaves the core's own cache. Built and called by native.py.
//
// Arrays are (T, H, W, C) with C a multiple of 8, in float32 or, where the processor multiplies
// it, bfloat16; sums are float32. Every function runs in the calling thread and touches only what
// it is given: threads may call it at the same time with scratch of their own.

#include "native_stem.h"

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
        UNROLL for (int i = 0; i < N; i++) in[i] = in_register(load<V>(rows[ky] + at + i * pixel));
        UNROLL for (int kx = 0; kx < 3; kx++)
            UNROLL for (int x = 0; x < X; x++) y[x] += tap[3 * ky + kx] * in[x * STRIDE + kx];
    }
    if constexpr (active) silu<E>(y);
    else UNROLL for (int x = 0; x < X; x++) sum += y[x];
    UNROLL for (int x = 0; x < X; x++) store(to + x * c, y[x]);
    return sum;
}

// Output rows of one vector of channels; weights and `to` have c values a pixel. Without SiLU
// (`active`), which squeeze-and-excitation precedes, what they are is added to `sums`.
template <class V, int STRIDE, bool active, class E>
static void depthwise(const float *const (*rows)[3], int count, int width, int stride, long pixel,
                      const float *weights, const float *biases, E *to, long c, float *sums) {
    constexpr int X = STRIDE == 0 ? 1 : 7;  // any stride; images are mostly 7 * 2^n wide
    V sum = all<V>(0), tap[9];
    const V bias = load<V>(biases);
    for (int i = 0; i < 9; i++) tap[i] = in_register(load<V>(weights + i * c));
    for (int r = 0; r < count; r++) {
        int x = 0;
        const long next = stride * pixel;
        for (; x + X <= width; x += X, to += X * c)
            sum += outputs<V, X, STRIDE, active>(rows[r], x * next, pixel, tap, bias, to, c);
        for (; x < width; x++, to += c)
            sum += outputs<V, 1, STRIDE, active>(rows[r], x * next, pixel, tap, bias, to, c);
    }
    if (!active) store(sums, load<V>(sums) + sum);
}

// silu(from * factors) of `count` vectors of channels.
template <class V, class E>
static inline void excite(const E *from, const float *factors, int count, E *to) {
    constexpr int N = 4, SIZE = sizeof(V) / sizeof(float);
    for (; count > 0; count -= N, from += N * SIZE, factors += N * SIZE, to += N * SIZE)
        with_size<N>(std::min(N, count), [&](auto vectors) {
            constexpr int M = decltype(vectors)::value;
            V y[M];
            UNROLL for (int i = 0; i < M; i++)
                y[i] = load<V>(from + i * SIZE) * load<V>(factors + i * SIZE);
            silu<E>(y);
            UNROLL for (int i = 0; i < M; i++) store(to + i * SIZE, y[i]);
        });
}

// ---------------------------------------------------------------- a block

extern "C" struct Block {
    int32_t t, h, w, stride, in, inner, out, fold, squeezed, widened;
    const void *w1, *w3;  // packed: conv1, in the order of Run::shift; conv3 and then downsample
    const float *b1, *w2, *b2, *b3;
    const float *fc1, *fb1, *fc2, *fb2;  // (squeezed, inner), (inner, squeezed), or null
};

static const long BAND = 64 * 1024;  // floats of a core's cache that a block's rows may fill
static const int MAX_ROWS = 64;      // of a band, and of those that conv1 does for it
static const int PANEL = 24;         // columns of the widest panel

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
    const long per_row = q.stride * (row + static_cast<long>(q.w) * q.in) +
                         static_cast<long>(p.wo) * (q.inner + q.out);
    p.rows = static_cast<int>(std::max(1L, std::min<long>(p.ho, BAND / per_row)));
    p.rows = std::min(p.rows, (MAX_ROWS - 3) / q.stride + 1);
    p.ring = (p.rows - 1) * q.stride + 3;
    const long f = sizeof(float), band = static_cast<long>(p.wo) * q.inner * sizeof(E);
    p.factors = lines(q.inner * f);  // after the sums
    p.hidden = p.factors + lines(q.inner * f);
    p.ring_at = p.hidden + lines(q.squeezed * f);
    p.zeros = p.ring_at + lines(row * p.ring * f);
    p.band = p.zeros + lines(static_cast<long>(q.w + 2) * PANEL * f);
    p.shift = p.band + lines(p.rows * band);
    p.plain = p.shift + lines((q.in + 2) * sizeof(int32_t));
    p.kept = p.plain + lines(std::max(q.inner, q.in) * sizeof(int32_t));
    p.bytes = p.kept + (q.fc1 ? lines(static_cast<long>(q.t) * p.ho * band) : 0);
    return p;
}

// One call of a block.
template <class E> class Run {
  public:
    Run(const Block &q, const E *x, E *out, char *scratch)
        : q(q), p(plan_of<E>(q)), x(x), out(out) {
        std::memset(scratch, 0, p.band);  // the ring's pads stay zero: only pixels are written
        sums = reinterpret_cast<float *>(scratch);
        factors = reinterpret_cast<float *>(scratch + p.factors);
        hidden = reinterpret_cast<float *>(scratch + p.hidden);
        ring = reinterpret_cast<float *>(scratch + p.ring_at);
        zeros = reinterpret_cast<const float *>(scratch + p.zeros);
        band = reinterpret_cast<E *>(scratch + p.band);
        shift = reinterpret_cast<int32_t *>(scratch + p.shift);
        plain = reinterpret_cast<int32_t *>(scratch + p.plain);
        kept = reinterpret_cast<E *>(scratch + p.kept);
        constexpr int S = Step<E>::size;
        const int frame = q.h * q.w * q.in;
        int32_t *to = shift;
        for (int i = 0; i < q.fold; i += S) *to++ = q.fold + i - frame;
        for (int i = 2 * q.fold; i < q.in; i += S) *to++ = i;
        for (int i = 0; i < q.fold; i += S) *to++ = i + frame;
        for (int i = 0; i < std::max(q.inner, q.in); i += S) plain[i / S] = i;
    }

    void operator()() {
        const long out_row = static_cast<long>(p.wo) * q.inner;
        for (int t = 0; t < q.t; t++)
            for (int y = 0, next = 0; y < p.ho; y += p.rows) {
                const int count = std::min(p.rows, p.ho - y);
                E *to = q.fc1 ? kept + (static_cast<long>(t) * p.ho + y) * out_row : band;
                next = widen(t, y, count, next, to);
                if (!q.fc1) narrow(t, y, count);
            }
        if (!q.fc1) return;
        squeeze();
        const int filled = q.inner / (8 * WIDE), rest = filled * 8 * WIDE;
        const int left = (q.inner - rest) / 8;
        for (int t = 0; t < q.t; t++)
            for (int y = 0; y < p.ho; y += p.rows) {
                const int count = std::min(p.rows, p.ho - y);
                const E *from = kept + (static_cast<long>(t) * p.ho + y) * out_row;
                for (long i = 0; i < count * out_row; i += q.inner) {
                    excite<wide>(from + i, factors, filled, band + i);
                    excite<v8>(from + i + rest, factors + rest, left, band + i + rest);
                }
                narrow(t, y, count);
            }
    }

  private:
    // conv1 and depthwise of `count` output rows from y on of frame t, into `to`. conv1 has done
    // all input rows before `next`; returns what that is now.
    int widen(int t, int y, int count, int next, E *to) {
        const int end = std::min(q.h, (y + count - 1) * q.stride + 2);
        const Product<E> conv1{static_cast<const E *>(q.w1), q.b1, q.inner, 1,
                               2 * steps<E>(q.fold) + steps<E>(q.in - 2 * q.fold)};
        Row<E, float> rows[MAX_ROWS];
        for (int i = next; i < end; i++) rows[i - next] = {{shifted(t, i)}, nullptr, nullptr};
        Ahead ahead;  // the next band's rows in the frame after, which no frame has read yet
        const long size = static_cast<long>(count) * q.stride * q.w * q.in;
        const E *then = x + (static_cast<long>(t + 1) * q.h + end) * q.w * q.in;
        if (t + 1 < q.t) ahead.add(then, size * sizeof(E));
        const long out_size = static_cast<long>(count) * p.wo * q.inner;
        if (q.fc1) ahead.add(to + out_size, out_size * sizeof(E));
        ahead.spread(static_cast<long>(end - next) * q.w, q.inner);

        panels(q.inner, [&](auto nv, int col) {
            constexpr int NV = decltype(nv)::value, PIXEL = 8 * NV;
            const long row = static_cast<long>(q.w + 2) * PIXEL;
            float *mine = ring + static_cast<long>(q.w + 2) * p.ring * col;
            for (int i = next; i < end; i++) rows[i - next].c = mine + i % p.ring * row + PIXEL;
            panel<NV>(conv1, rows, end - next, q.w, col, 0, PIXEL, ahead);
            const float *in[MAX_ROWS][3];
            for (int r = 0; r < count; r++)
                for (int k = 0; k < 3; k++) {
                    const int i = (y + r) * q.stride + k - 1;
                    in[r][k] = i < 0 || i >= q.h ? zeros : mine + i % p.ring * row;
                }
            for (int v = 0; v < NV;) {
                const int width = v + WIDE <= NV ? WIDE : 1;
                if (width == WIDE) filter<wide>(in, count, PIXEL, col + 8 * v, to);
                else filter<v8>(in, count, PIXEL, col + 8 * v, to);
                for (int r = 0; r < count; r++)
                    for (const float *&from : in[r]) from += 8 * width;
                v += width;
            }
        });
        return end;
    }

    // Where conv1 finds row y of frame t: channels of the frame before, its own, of the one after.
    Part<E> shifted(int t, int y) const {
        const int moved = steps<E>(q.fold), own = steps<E>(q.in - 2 * q.fold);
        const int from = t > 0 ? 0 : moved, to = moved + own + (t + 1 < q.t ? moved : 0);
        const E *here = x + (static_cast<long>(t) * q.h + y) * q.w * q.in;
        return {here, q.in, shift + from, to - from, from};
    }

    // Depthwise of one vector of channels, from c on.
    template <class V>
    void filter(const float *const (*in)[3], int count, long pixel, int c, E *to) {
        auto run = [&](auto stride, auto active) {
            depthwise<V, decltype(stride)::value, decltype(active)::value == 1>(
                in, count, p.wo, q.stride, pixel, q.w2 + c, q.b2 + c, to + c, q.inner, sums + c);
        };
        auto run_active = [&](auto stride) {
            if (q.fc1) run(stride, Size<0>{});
            else run(stride, Size<1>{});
        };
        if (q.stride == 1) run_active(Size<1>{});
        else if (q.stride == 2) run_active(Size<2>{});
        else run_active(Size<0>{});
    }

    // From the sums to the factors of squeeze-and-excitation.
    void squeeze() {
        const float share = 1.0f / (static_cast<float>(q.t) * p.ho * p.wo);
        for (int s = 0; s < q.squeezed; s++) {
            float v = 0;
            for (int c = 0; c < q.inner; c++)
                v += q.fc1[static_cast<long>(s) * q.inner + c] * sums[c];
            v = v * share + q.fb1[s];
            hidden[s] = v < 0 ? 0 : v;
        }
        for (int c = 0; c < q.inner; c++) {
            float v = q.fb2[c];
            for (int s = 0; s < q.squeezed; s++)
                v += q.fc2[static_cast<long>(c) * q.squeezed + s] * hidden[s];
            factors[c] = 1.0f / (1.0f + __builtin_expf(-v));
        }
    }

    // conv3 of the band, rows y.. of frame t, plus the shortcut, into out.
    void narrow(int t, int y, int count) {
        const int k3 = steps<E>(q.inner), k_in = steps<E>(q.in);
        const Product<E> conv3{static_cast<const E *>(q.w3), q.b3, q.out, q.widened ? 2 : 1,
                               q.widened ? k3 + k_in : k3};
        const long first = static_cast<long>(t) * p.ho + y;
        const long pixels = static_cast<long>(count) * p.wo;
        const long in_row = static_cast<long>(q.stride) * q.w * q.in;
        const E *from = x + (static_cast<long>(t) * q.h + y * q.stride) * q.w * q.in;
        Row<E, E> rows[MAX_ROWS];
        for (int r = 0; r < count; r++) {
            rows[r] = {{{band + static_cast<long>(r) * p.wo * q.inner, q.inner, plain, k3, 0},
                        {from + r * in_row, static_cast<long>(q.stride) * q.in, plain, k_in, k3}},
                       q.widened ? nullptr : from + r * in_row,
                       out + (first + r) * p.wo * q.out};
        }
        Ahead ahead;
        if (y + count < p.ho || t + 1 < q.t) {  // the next band
            ahead.add(out + (first + count) * p.wo * q.out, pixels * q.out * sizeof(E));
            if (q.fc1) {
                ahead.add(kept + (first + count) * p.wo * q.inner, pixels * q.inner * sizeof(E));
                ahead.add(from + count * in_row, count * in_row * sizeof(E));
            }
        }
        if (q.stride == 1) multiply(conv3, rows, 1, pixels, ahead);
        else multiply(conv3, rows, count, p.wo, ahead);
    }

    const Block &q;
    const Plan p;
    const E *x;
    E *out, *band, *kept;
    float *sums, *factors, *hidden, *ring;
    const float *zeros;
    int32_t *shift, *plain;  // where conv1 finds a pixel's values, in three frames; others do
};

// ---------------------------------------------------------------- head

// 1x1 convolution and ReLU of `pixels` pixels.
template <class E>
static void head(const E *x, const E *w, const float *bias, long pixels, int in, int out, E *y) {
    const Product<E> product{w, bias, out, 1, steps<E>(in)};
    std::vector<int32_t> plain;
    for (int i = 0; i < in; i += Step<E>::size) plain.push_back(i);
    Ahead nothing;
    for (long i = 0; i < pixels; i += 48) {
        Row<E, E> row{{{x + i * in, in, plain.data(), steps<E>(in), 0}}, nullptr, y + i * out};
        multiply(product, &row, 1, std::min<long>(48, pixels - i), nothing);
    }
}

// ---------------------------------------------------------------- what Python calls

#define EXPORT(E, NAME)                                                                            \
    void epam_pack_##NAME(const float *b, int32_t k, int32_t n, E *packed) { pack(b, k, n, packed); } \
    int64_t epam_block_scratch_##NAME(const Block *q) { return plan_of<E>(*q).bytes; }             \
    void epam_stem_##NAME(const Stem *q, const void *frames, E *out) { stem(*q, frames, out); }    \
    void epam_block_##NAME(const Block *q, const E *x, E *out, char *scratch) {                    \
        Run<E>(*q, x, out, scratch)();                                                             \
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
