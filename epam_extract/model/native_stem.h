// A stream's first layer: 3x3 convolution and ReLU of frames in any layout, u8 or float32, computed
// in float32. Included by native.cpp alone.

#include <vector>

#include "native_product.h"

extern "C" struct Stem {
    int32_t t, h, w, stride, in, out, is_u8;
    int64_t st, sh, sw, sc;   // of the frames, in elements
    float mean[3], scale[3];  // of u8 channels
    const float *weight, *bias;  // packed (in, 3, 3, out), (out,)
};

// The three input rows that an output row is computed from, padded with zeros. Pixels of u8 frames
// keep their channels side by side; of others, heatmaps, each channel is a plane.
class Window {
  public:
    explicit Window(const Stem &q)
        : q(q), spans((q.w + 2 + SPAN - 1) / SPAN), pixel(q.is_u8 ? q.in : 1),
          row(spans * SPAN * pixel), plane(q.is_u8 ? 1 : PLACES * row),
          values(PLACES * spans * SPAN * q.in), used(q.in * PLACES), seen(q.in), parts(q.in) {
        if (!q.is_u8) return;
        bytes.resize(static_cast<size_t>(q.w) * q.in);
        for (size_t i = 0; i < bytes.size(); i++) {
            mean.push_back(q.mean[i % q.in]);
            scale.push_back(q.scale[i % q.in]);
        }
    }

    // Read row y of frame t.
    void read(const void *frames, int t, int y) {
        const int64_t from = t * q.st + y * q.sh;
        if (q.is_u8) return read_pixels(static_cast<const uint8_t *>(frames) + from, y % 3);
        for (int c = 0; c < q.in; c++)
            read_plane(static_cast<const float *>(frames) + from + c * q.sc, c, y % 3);
    }

    // Turn to the rows around y.
    void centre(int y) {
        int place[3];
        for (int k = 0; k < 3; k++) {
            place[k] = y + k < 1 || y + k > q.h ? ZEROS : (y + k - 1) % 3;
            for (int c = 0, i = 3 * k; c < (q.is_u8 ? q.in : 1); c++, i += 6)
                for (int kx = 0; kx < 3; kx++, i++)
                    at[i] = static_cast<int32_t>(place[k] * row + kx * pixel + c);
        }
        for (int c = 0; c < q.in; c++) {
            const uint64_t *u = &used[c * PLACES];
            seen[c] = u[place[0]] | u[place[1]] | u[place[2]];
        }
    }

    // What a product reads for `width` output pixels from x on: of planes those that are not zero.
    int parts_at(int x, int width) {
        const long lda = q.stride * pixel;
        if (q.is_u8) {
            parts[0] = {values.data(), lda, at, 9 * q.in, 0};
            return 1;
        }
        const uint64_t first = bit(x * q.stride / SPAN);
        const uint64_t last = bit(((x + width - 1) * q.stride + 2) / SPAN);
        const uint64_t here = last | (last - first);
        int count = 0;
        for (int c = 0; c < q.in; c++)
            if (seen[c] & here) parts[count++] = {values.data() + c * plane, lda, at, 9, 9 * c};
        return count;
    }

    const Part<float> *begin() const { return parts.data(); }

  private:
    static const int SPAN = 8;    // pixels that have one bit in `used`, set where one is not zero
    static const int PLACES = 4;  // row y is in place y % 3, and
    static const int ZEROS = 3;   // this one stays empty

    // The last bit is for all that follow.
    static uint64_t bit(long span) { return 1ull << std::min(span, 63L); }

    void read_pixels(const uint8_t *from, int place) {
        if (q.sc != 1 || q.sw != q.in) {
            for (int i = 0; i < q.w; i++)
                for (int c = 0; c < q.in; c++) bytes[i * q.in + c] = from[i * q.sw + c * q.sc];
            from = bytes.data();
        }
        float *to = &values[place * row + pixel];
        for (size_t i = 0; i < bytes.size(); i++) to[i] = (from[i] - mean[i]) * scale[i];
    }

    void read_plane(const float *from, int channel, int place) {
        float *to = &values[channel * plane + place * row];
        for (int i = 0; i < q.w; i += 16) __builtin_prefetch(from + 3 * q.sh + i, 0, 2);
        if (q.sw == 1) std::memcpy(to + 1, from, q.w * sizeof *to);
        else for (int i = 0; i < q.w; i++) to[i + 1] = from[i * q.sw];
        uint64_t found = 0, pairs[SPAN / 2];
        for (long i = 0; i < spans; i++) {
            std::memcpy(pairs, to + i * SPAN, sizeof pairs);
            if (pairs[0] | pairs[1] | pairs[2] | pairs[3]) found |= bit(i);
        }
        used[channel * PLACES + place] = found;
    }

    const Stem &q;
    const long spans, pixel, row, plane;
    std::vector<float> values, mean, scale;
    std::vector<uint8_t> bytes;
    std::vector<uint64_t> used, seen;
    std::vector<Part<float>> parts;
    int32_t at[27];
};

template <class E> static void stem(const Stem &q, const void *frames, E *out) {
    constexpr int MOST = tile_rows(3);
    const int ho = (q.h - 1) / q.stride + 1, wo = (q.w - 1) / q.stride + 1;
    const int tiles = (wo + MOST - 1) / MOST, size = (wo + tiles - 1) / tiles;
    Window window(q);
    for (int t = 0; t < q.t; t++)
        for (int y = 0, next = 0; y < ho; y++) {
            for (const int end = std::min(q.h, y * q.stride + 2); next < end; next++)
                window.read(frames, t, next);
            window.centre(y * q.stride);
            for (int x = 0; x < wo; x += size) {
                const int width = std::min(size, wo - x), count = window.parts_at(x, width);
                E *to = out + ((static_cast<long>(t) * ho + y) * wo + x) * q.out;
                const E *then = to + static_cast<long>(wo) * q.out;  // the next row
                for (int i = 0; i < width * q.out; i += 64 / sizeof(E))
                    __builtin_prefetch(then + i, 0, 2);
                panels(q.out, [&](auto nv, int col) {
                    with_size<MOST>(width, [&](auto rows) {
                        one_tile<decltype(nv)::value, decltype(rows)::value>(
                            window.begin(), count, x, q.weight + 9L * q.in * col,
                            q.bias + col, static_cast<const E *>(nullptr), to + col, q.out);
                    });
                });
            }
        }
}
