// The DCGAN's 5x5 stride-2 convolutions in float32, by fused Winograd kernels.
//
// Such a convolution, or its transpose, is a 3x3 convolution at stride 1
// between a small image and the blocks of 2x2 pixels of a big one. F(4x4, 3x3)
// (Lavin and Gray 2016) computes tiles of 4x4 places by 36 matrix products in
// the place of 144. A task here takes a few tiles through all three stages, so
// that what lies between them stays in the cache. A 5x5 kernel fills 25 of the
// 36 taps; the other 11 are zero at one end of their polynomials, where they
// make 23 of 144 blocks of the products vanish, which are left out.
//
// Every sum has one order, whatever the batch and the number of threads.

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using Index = int64_t;
using Buffer1 = ffi::Buffer<ffi::F32, 1>;
using Buffer4 = ffi::Buffer<ffi::F32, 4>;
using Buffer5 = ffi::Buffer<ffi::F32, 5>;

// Lanes of a vector register, and the block of a product that registers hold:
// kRows x kPanel sums, or half a panel at the edge.
#if defined(__AVX512F__)
constexpr Index kLanes = 16, kRows = 12, kPanel = 32;
#elif defined(__AVX__)
constexpr Index kLanes = 8, kRows = 6, kPanel = 16;
#else
constexpr Index kLanes = 4, kRows = 6, kPanel = 16;
#endif
// Channels are padded to this many, also where Python makes room for kernels.
constexpr Index kPad = 16;
constexpr Index kPoints = 36;
// More tiles than this share one transformed kernel, if each of its planes has
// fewer floats than this.
constexpr Index kManyTiles = 64, kSharedPlane = 1 << 16;

typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef float Unaligned
    __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

inline Vec Load(const float* p) {
  return *reinterpret_cast<const Unaligned*>(p);
}
inline void Store(float* p, Vec v) { *reinterpret_cast<Unaligned*>(p) = v; }

inline Index Padded(Index channels) {
  return (channels + kPad - 1) / kPad * kPad;
}

struct Slice {
  Index size() const { return last - first; }
  Index first, last;
};

// Planes of 36 products. One more line between them spreads them over the sets
// of a cache.
inline Index PlaneSize(Index rows, Index columns) {
  return rows * columns + kPad;
}

// ---------------------------------------------------------------------------
// Winograd's transforms, the matrices of `_winograd_matrices` in Python. Their
// first and last rows are the values at 0 and at infinity.

template <int R, int C>
struct Matrix {
  float at[R][C];
};

template <int R, int C>
constexpr Matrix<C, R> Transposed(const Matrix<R, C>& matrix) {
  Matrix<C, R> result = {};
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) result.at[c][r] = matrix.at[r][c];
  }
  return result;
}

constexpr Matrix<6, 6> kInput = {{{1, -1.5, -2, 1.5, 1, 0},
                                  {0, -1, 0.5, 2.5, 1, 0},
                                  {0, 1, -2.5, 0.5, 1, 0},
                                  {0, -2, -1, 2, 1, 0},
                                  {0, 0.5, -1, -0.5, 1, 0},
                                  {0, 1, -1.5, -2, 1.5, 1}}};
// Divided by what makes the input's entries above exact.
constexpr float kThird = 1.0f / 3, kLast = 1.0f / 15;
constexpr Matrix<6, 3> kKernel = {{{1, 0, 0},
                                   {kThird, kThird, kThird},
                                   {-kThird, kThird, -kThird},
                                   {-16 * kLast, -8 * kLast, -4 * kLast},
                                   {kLast, -2 * kLast, 4 * kLast},
                                   {0, 0, 1}}};
constexpr Matrix<4, 6> kOutput = {{{1, 1, 1, 1, 1, 0},
                                   {0, 1, -1, 0.5, -2, 0},
                                   {0, 1, 1, 0.25, 4, 0},
                                   {0, 1, -1, 0.125, -8, 1}}};
constexpr Matrix<6, 4> kOutputTransposed = Transposed(kOutput);
constexpr Matrix<3, 6> kKernelTransposed = Transposed(kKernel);

// Passes the entries of M X M^T to `sink(index, value)`; `source(index)` gives
// those of X. The compiler unrolls all of it and leaves out the zeros.
template <const auto& kM, int R, int C, typename Source, typename Sink>
inline void TransformWith(const Matrix<R, C>&, Source source, Sink sink) {
  Vec half[R * C];
#pragma GCC unroll 6
  for (int x = 0; x < C; ++x) {
    Vec column[C];
#pragma GCC unroll 6
    for (int c = 0; c < C; ++c) column[c] = source(c * C + x);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      Vec sum = {};
#pragma GCC unroll 6
      for (int c = 0; c < C; ++c) {
        if (kM.at[r][c] != 0) sum += kM.at[r][c] * column[c];
      }
      half[r * C + x] = sum;
    }
  }
#pragma GCC unroll 6
  for (int y = 0; y < R; ++y) {
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      Vec sum = {};
#pragma GCC unroll 6
      for (int c = 0; c < C; ++c) {
        if (kM.at[r][c] != 0) sum += kM.at[r][c] * half[y * C + c];
      }
      sink(y * R + r, sum);
    }
  }
}

template <const auto& kM, typename Source, typename Sink>
inline void Transform(Source source, Sink sink) {
  TransformWith<kM>(kM, source, sink);
}

// ---------------------------------------------------------------------------
// A square of lanes, transposed.

// Swaps the off-diagonal blocks of S x S in every square of 2 S x 2 S.
template <int S, int... J>
inline void SwapBlocks(Vec* v, std::integer_sequence<int, J...>) {
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    if (i & S) continue;
    const Vec a = v[i], b = v[i + S];
    v[i] = __builtin_shufflevector(a, b, (J & S ? kLanes + J - S : J)...);
    v[i + S] = __builtin_shufflevector(a, b, (J & S ? kLanes + J : J + S)...);
  }
  if constexpr (S > 1) {
    SwapBlocks<S / 2>(v, std::integer_sequence<int, J...>());
  }
}

inline void Transpose(Vec* v) {
  SwapBlocks<kLanes / 2>(v, std::make_integer_sequence<int, kLanes>());
}

// ---------------------------------------------------------------------------
// Images. Channels of a block are numbered (row, column, channel of a pixel),
// and a vector of them may span several runs of neighbours in memory.

struct Run {
  Index part, first, lane, size;  // channels part * length + first + [0, size)
};

struct Runs {
  Runs(Index parts, Index length, Index first) {
    const Index last = std::min(parts * length, first + kLanes);
    for (Index n = first; n < last; n += run[count++].size) {
      run[count] = {n / length, n % length, n - first,
                    std::min(last - n, length - n % length)};
    }
  }
  int count = 0;
  Run run[kLanes];
};

// An image as a grid of blocks: of one row of a pixel, or of two rows of two.
struct Grid {
  Grid(const Buffer4& image, Index block)
      : data(image.typed_data()),
        end(data + image.element_count()),
        images(image.dimensions()[0]),
        height(image.dimensions()[1] / block),
        width(image.dimensions()[2] / block),
        parts(block),
        length(block * image.dimensions()[3]) {}

  Index channels() const { return parts * length; }
  Index rows_of_tiles() const { return (height + 3) / 4; }
  Index columns_of_tiles() const { return (width + 3) / 4; }
  Index tiles() const { return images * rows_of_tiles() * columns_of_tiles(); }

  // Calls `visit(index, block)` for the N x N blocks of a tile, from `margin`
  // blocks before it on; `block` is null outside of the image.
  template <int N, typename Visit>
  void VisitTile(Index tile, int margin, Visit visit) const {
    const Index column = tile % columns_of_tiles();
    const Index row = tile / columns_of_tiles() % rows_of_tiles();
    const Index image = tile / columns_of_tiles() / rows_of_tiles();
    for (int i = 0; i < N; ++i) {
      const Index y = 4 * row + i - margin;
      float* line = data + (image * height + y) * parts * width * length;
      for (int j = 0; j < N; ++j) {
        const Index x = 4 * column + j - margin;
        const bool inside = y >= 0 && y < height && x >= 0 && x < width;
        visit(i * N + j, inside ? line + x * length : nullptr);
      }
    }
  }

  float* data;
  float* end;
  Index images, height, width, parts, length;
};

// The N x N blocks of a tile, where vectors of channels never span two runs:
// each lies in memory as it is wanted.
template <int N>
struct Blocks {
  static bool Fit(const Grid& grid) { return grid.length % kLanes == 0; }

  Blocks(const Grid& grid, Index tile) : grid(grid) {
    grid.VisitTile<N>(tile, (N - 4) / 2, [&](int index, float* block) {
      outside[index] = block == nullptr;
      data[index] = outside[index] ? nowhere : block;
    });
  }

  // Returns where the vector from channel n on lies. What is outside of the
  // image is read as zeros; nothing may be written there.
  float* At(int index, Index n) const {
    const Index offset =
        n / grid.length * grid.width * grid.length + n % grid.length;
    return data[index] + (outside[index] ? 0 : offset);
  }

  const Grid& grid;
  float* data[N * N];
  bool outside[N * N];
  inline static float nowhere[kLanes] = {};
};

// Reads a vector of channels of N x N blocks. Lanes beyond the last channel
// hold anything: no sum ever mixes lanes. `result` has one vector to spare.
template <int N>
void Gather(const Grid& grid, Index tile, const Runs& runs, Vec* result) {
  constexpr int kMargin = (N - 4) / 2;
  grid.VisitTile<N>(tile, kMargin, [&](int index, const float* block) {
    if (block == nullptr) {
      result[index] = Vec{};
      return;
    }
    for (int r = 0; r < runs.count; ++r) {
      const Run& run = runs.run[r];
      const float* from =
          block + run.part * grid.width * grid.length + run.first;
      float* to = reinterpret_cast<float*>(result + index) + run.lane;
      // What is copied too much is overwritten by the next run or block.
      if (from + kLanes <= grid.end) {
        Store(to, Load(from));
      } else {
        std::copy_n(from, run.size, to);
      }
    }
  });
}

// Writes a vector of channels of 4 x 4 blocks.
void Scatter(const Grid& grid, Index tile, const Runs& runs, const Vec* v) {
  grid.VisitTile<4>(tile, 0, [&](int index, float* block) {
    if (block == nullptr) return;
    for (int r = 0; r < runs.count; ++r) {
      const Run& run = runs.run[r];
      float* to = block + run.part * grid.width * grid.length + run.first;
      if (run.size == kLanes) {
        Store(to, v[index]);
      } else {
        std::copy_n(reinterpret_cast<const float*>(v + index) + run.lane,
                    run.size, to);
      }
    }
  });
}

// ---------------------------------------------------------------------------
// Kernels. The weight at (ky, kx) joins the place i of the small image with
// the pixel 2 i - 1 + k of the big one.

constexpr uint64_t LivePointsOf(bool strided, int pixel) {
  uint64_t live = 0;
  for (int point = 0; point < kPoints; ++point) {
    const int end = strided ? 0 : 5;
    const bool dead = (pixel / 2 == 0 && point / 6 == end) ||
                      (pixel % 2 == 0 && point % 6 == end);
    if (!dead) live |= uint64_t{1} << point;
  }
  return live;
}

struct Kernel {
  // [5, 5, big, small], or flipped as [5, 5, small, big].
  Kernel(const Buffer4& weights, bool big_first)
      : Kernel(weights.typed_data(), weights.dimensions()[big_first ? 2 : 3],
               weights.dimensions()[big_first ? 3 : 2], big_first) {}
  Kernel(float* data, Index big, Index small, bool big_first)
      : data(data),
        big(big),
        small(small),
        big_first(big_first),
        big_stride(big_first ? small : 1),
        small_stride(big_first ? 1 : big) {}

  // Channels as the convolution sees them: those of a block on the big side.
  Index InputChannels(bool strided) const { return strided ? 4 * big : small; }
  Index OutputChannels(bool strided) const { return strided ? small : 4 * big; }

  // Returns the first channels' weight of a tap of the 3x3 kernel, at a pixel
  // 0 to 3 of the blocks, or null where the 5x5 kernel has none.
  float* Tap(bool strided, int tap, Index pixel) const {
    const Index row = pixel / 2, column = pixel % 2;
    const Index y = strided ? 2 * (tap / 3) + row - 1 : 3 - 2 * (tap / 3) + row;
    const Index x =
        strided ? 2 * (tap % 3) + column - 1 : 3 - 2 * (tap % 3) + column;
    if (y < 0 || x < 0) return nullptr;
    return data + (big_first ? y * 5 + x : 24 - y * 5 - x) * big * small;
  }

  // Returns a bit for each point at which the transformed weights of the
  // blocks' `channels` do not vanish. The first row and column of a block have
  // two taps of three, which leaves out one end.
  uint64_t LivePoints(bool strided, Slice channels) const {
    static constexpr uint64_t kLive[2][4] = {
        {LivePointsOf(false, 0), LivePointsOf(false, 1), LivePointsOf(false, 2),
         LivePointsOf(false, 3)},
        {LivePointsOf(true, 0), LivePointsOf(true, 1), LivePointsOf(true, 2),
         LivePointsOf(true, 3)}};
    uint64_t live = 0;
    const Index last = std::min<Index>(3, (channels.last - 1) / big);
    for (Index pixel = channels.first / big; pixel <= last; ++pixel) {
      live |= kLive[strided][pixel];
    }
    return live;
  }

  float* data;
  Index big, small;
  bool big_first;
  Index big_stride, small_stride;
};

// ---------------------------------------------------------------------------
// Products of matrices. The right side comes in panels of kPanel columns, the
// last of kPanel or fewer, each with its rows one after the other; so does the
// result.

// The right side may come from far, and is fetched this many rows ahead, by
// lines of the cache of so many floats.
constexpr Index kAhead = 64, kLine = 16;

// sums[R][V vectors] (+)= a[R][depth] b[depth][V vectors].
template <int R, int V>
void Block(Index depth, const float* a, Index row_stride, Index depth_stride,
           const float* b, float* result, bool accumulate) {
  Vec sums[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      float* p = result + (r * V + v) * kLanes;
      sums[r][v] = accumulate ? Load(p) : Vec{};
    }
  }
  for (Index d = 0; d < depth; ++d) {
    for (int v = 0; v < V * kLanes; v += kLine) {
      __builtin_prefetch(b + kAhead * V * kLanes + v);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const float factor = a[r * row_stride];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        sums[r][v] += factor * Load(b + v * kLanes);
      }
    }
    a += depth_stride;
    b += V * kLanes;
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      Store(result + (r * V + v) * kLanes, sums[r][v]);
    }
  }
}

using BlockFunction = decltype(&Block<1, 1>);

template <int V, int... R>
constexpr std::array<BlockFunction, kRows> BlocksOfRows(
    std::integer_sequence<int, R...>) {
  return {&Block<R + 1, V>...};
}

// One panel of the result, in blocks of rows of nearly the same size.
void Product(Index rows, Index columns, Index depth, const float* a,
             Index row_stride, Index depth_stride, const float* b,
             float* result, bool accumulate) {
  using Sizes = std::make_integer_sequence<int, kRows>;
  static constexpr auto kWhole = BlocksOfRows<kPanel / kLanes>(Sizes());
  static constexpr auto kEdge = BlocksOfRows<kPad / kLanes>(Sizes());
  const auto& blocks = columns == kPanel ? kWhole : kEdge;
  const Index count = (rows + kRows - 1) / kRows;
  for (Index i = 0; i < count; ++i) {
    const Index first = rows * i / count, last = rows * (i + 1) / count;
    blocks[last - first - 1](depth, a + first * row_stride, row_stride,
                             depth_stride, b, result + first * columns,
                             accumulate);
  }
}

// ---------------------------------------------------------------------------
// Work.

// Calls `work(task)` for all tasks, on the threads of XLA and this one.
template <typename Work>
void ParallelFor(ffi::ThreadPool& pool, Index tasks, Work work) {
  struct State {
    std::atomic<Index> next{0};
    std::mutex mutex;
    std::condition_variable finished;
    Index left;
  };
  auto state = std::make_shared<State>();
  state->left = tasks;
  // A thread that comes late finds no task left and never touches `work`.
  auto take = [state, tasks, &work] {
    Index done = 0;
    for (Index task; (task = state->next++) < tasks; ++done) work(task);
    if (done == 0) return;
    std::lock_guard<std::mutex> lock(state->mutex);
    if ((state->left -= done) == 0) state->finished.notify_one();
  };
  const Index helpers = std::min(tasks, pool.num_threads()) - 1;
  for (Index i = 0; i < helpers; ++i) pool.Schedule(decltype(take)(take));
  take();
  std::unique_lock<std::mutex> lock(state->mutex);
  state->finished.wait(lock, [&] { return state->left == 0; });
}

// Memory of this thread, kept for the next task.
template <int kUse>
float* Scratch(Index size) {
  thread_local std::vector<Vec> memory;
  const size_t vectors = size / kLanes + 1;
  if (memory.size() < vectors) memory.resize(vectors);
  return reinterpret_cast<float*>(memory.data());
}

// How many parts of at most `largest` a whole is cut into.
inline Index Parts(Index whole, Index largest) {
  return std::max<Index>(1, (whole + largest - 1) / largest);
}

// The part of [0, whole) that is number `part` of `parts`.
Slice PartOf(Index whole, Index parts, Index part, Index unit = 1) {
  const Index units = (whole + unit - 1) / unit;
  return {units * part / parts * unit,
          std::min(whole, units * (part + 1) / parts * unit)};
}

// Transforms the tiles' `channels`. A point's values begin `point` floats after
// those of the point before it, and lie there as [tile, padded channel], the
// tiles `tile_stride` apart, or as panels.
template <const auto& kM, int N>
void TransformTiles(const Grid& grid, Slice tiles, Slice channels, bool panels,
                    float* result, Index point, Index tile_stride) {
  const Index columns = Padded(channels.size());
  // Where a tile's vector of channels goes at the first point.
  const auto place = [&](Index tile, Index k) {
    const Index panel = panels ? k / kPanel * kPanel : 0;
    const Index stride =
        panels ? std::min(kPanel, columns - panel) : tile_stride;
    return result + panel * tiles.size() + (tile - tiles.first) * stride + k -
           panel;
  };
  const bool fit = Blocks<N>::Fit(grid);
  for (Index tile = tiles.first; fit && tile < tiles.last; ++tile) {
    const Blocks<N> blocks(grid, tile);
    for (Index k = 0; k < channels.size(); k += kLanes) {
      float* to = place(tile, k);
      Transform<kM>(
          [&](int i) { return Load(blocks.At(i, channels.first + k)); },
          [&](int i, Vec v) { Store(to + i * point, v); });
    }
  }
  for (Index k = 0; !fit && k < channels.size(); k += kLanes) {
    const Runs runs(grid.parts, grid.length, channels.first + k);
    for (Index tile = tiles.first; tile < tiles.last; ++tile) {
      Vec blocks[N * N + 1];
      Gather<N>(grid, tile, runs, blocks);
      float* to = place(tile, k);
      Transform<kM>([&](int i) { return blocks[i]; },
                    [&](int i, Vec v) { Store(to + i * point, v); });
    }
  }
}

// Transforms planes of products of [tile, channel], `width` to a tile, and
// writes the tiles' `channels`.
void WriteTiles(const Grid& grid, Slice tiles, Slice channels,
                const float* planes, Index plane, Index width) {
  // No block of a tile may lie outside, as nothing can be written there.
  const bool fit = Blocks<4>::Fit(grid) && grid.height % 4 == 0 &&
                   grid.width % 4 == 0;
  for (Index tile = tiles.first; tile < tiles.last; ++tile, planes += width) {
    const auto source = [&](Index n) {
      const float* from = planes + n - channels.first;
      return [=](int i) { return Load(from + i * plane); };
    };
    if (fit) {
      const Blocks<4> blocks(grid, tile);
      for (Index n = channels.first; n < channels.last; n += kLanes) {
        Transform<kOutput>(source(n), [&](int i, Vec v) {
          Store(blocks.At(i, n), v);
        });
      }
      continue;
    }
    for (Index n = channels.first; n < channels.last; n += kLanes) {
      Vec result[16];
      Transform<kOutput>(source(n), [&](int i, Vec v) { result[i] = v; });
      Scatter(grid, tile, Runs(grid.parts, grid.length, n), result);
    }
  }
}

// Transforms the weights of some input channels and of one panel of output
// channels to planes of [input channel, output channel].
void TransformPanel(const Kernel& kernel, bool strided, Slice rows,
                    Slice columns, float* planes, Index plane) {
  const Index width = columns.size();
  const Index lane_stride = strided ? kernel.small_stride : kernel.big_stride;
  const Index row_stride = strided ? kernel.big_stride : kernel.small_stride;
  for (Index n = 0; n < width; n += kLanes) {
    const Runs runs(strided ? 1 : 4, strided ? kernel.small : kernel.big,
                    columns.first + n);
    const bool whole = runs.run[0].size == kLanes;
    // Rows of one pixel at a time.
    for (Index first = rows.first, last; first < rows.last; first = last) {
      const Index pixel = strided ? first / kernel.big : 0;
      last = strided ? std::min(rows.last, (pixel + 1) * kernel.big) : rows.last;
      const uint64_t live =
          kernel.LivePoints(strided, strided ? Slice{first, last} : columns);
      const Index row = (strided ? first % kernel.big : first) * row_stride;
      // Where the first row's lanes begin, or null.
      const float* from[kLanes][9];
      for (int r = 0; r < runs.count; ++r) {
        const Run& run = runs.run[r];
        for (int tap = 0; tap < 9; ++tap) {
          from[r][tap] = kernel.Tap(strided, tap, strided ? pixel : run.part);
          if (from[r][tap]) from[r][tap] += row + run.first * lane_stride;
        }
      }
      const auto transform = [&](Index k, const Vec* taps) {
        float* to = planes + (k - rows.first) * width + n;
        Transform<kKernel>([&](int i) { return taps[i * kLanes]; },
                           [&](int i, Vec v) {
                             if (live >> i & 1) Store(to + i * plane, v);
                           });
      };
      // The weights of up to kLanes rows, [tap][row].
      Vec taps[9 * kLanes] = {};
      for (Index k = first; k < last; k += kLanes) {
        const Index count = std::min(kLanes, last - k);
        for (int r = 0; r < runs.count; ++r) {
          const Run& run = runs.run[r];
          for (int tap = 0; tap < 9; ++tap) {
            if (from[r][tap] == nullptr) continue;
            const float* source = from[r][tap] + (k - first) * row_stride;
            Vec* lanes = taps + tap * kLanes;
            if (whole && lane_stride == 1) {
              for (Index i = 0; i < count; ++i) {
                lanes[i] = Load(source + i * row_stride);
              }
            } else if (whole && count == kLanes) {
              for (Index i = 0; i < kLanes; ++i) {
                lanes[i] = Load(source + i * lane_stride);
              }
              Transpose(lanes);
            } else {
              for (Index i = 0; i < count; ++i) {
                float* to = reinterpret_cast<float*>(lanes + i) + run.lane;
                for (Index j = 0; j < run.size; ++j) {
                  to[j] = source[i * row_stride + j * lane_stride];
                }
              }
            }
          }
        }
        for (Index i = 0; i < count; ++i) transform(k + i, taps + i);
      }
    }
  }
}

// Some tiles and some of the output's channels, a panel of them at a time.
// `planes` is the transformed kernel, or null where it has to be made here.
void ConvolveTiles(const Grid& input, const Kernel& kernel,
                   const float* planes, const Grid& output, Slice tiles,
                   Slice channels) {
  constexpr Index kChunk = 64;  // input channels to make a kernel's part of
  const bool strided = input.parts == 2;
  const Index depth = input.channels(), stride = Padded(depth);
  const Index step = planes ? depth : std::min(depth, kChunk);
  const Index count = tiles.size();
  // Of a tile, all points lie together, which spares the TLB.
  const Index tile_stride = kPoints * stride + kPad;
  const Index output_plane = PlaneSize(count, kPanel);
  const Index own_plane = planes ? 0 : PlaneSize(step, kPanel);
  float* inputs = Scratch<0>(count * tile_stride +
                             kPoints * (output_plane + own_plane));
  float* products = inputs + count * tile_stride;
  float* own_kernel = products + kPoints * output_plane;
  TransformTiles<kInput, 6>(input, tiles, {0, depth}, false, inputs, stride,
                            tile_stride);

  // Whether the weights of an input channel are live at a point, and where the
  // pixel that it belongs to ends.
  const auto live = [&](Index k, int point) {
    return !strided || kernel.LivePoints(true, {k, k + 1}) >> point & 1;
  };
  const auto end = [&](Index k) {
    return strided ? (k / kernel.big + 1) * kernel.big : depth;
  };
  for (Index n = channels.first; n < channels.last; n += kPanel) {
    const Index last_column = std::min(n + kPanel, Padded(channels.last));
    const Index width = last_column - n;
    const uint64_t live_panel =
        strided ? ~uint64_t{0} : kernel.LivePoints(false, {n, last_column});
    bool started[kPoints] = {};
    for (Index k = 0; k < depth; k += step) {
      const Index chunk_end = std::min(depth, k + step);
      const Index kernel_plane = PlaneSize(chunk_end - k, width);
      const float* weights =
          planes + n / kPanel * kPoints * PlaneSize(depth, kPanel);
      if (!planes) {
        TransformPanel(kernel, strided, {k, chunk_end}, {n, last_column},
                       own_kernel, kernel_plane);
        weights = own_kernel;
      }
      for (int point = 0; point < kPoints; ++point) {
        if (!(live_panel >> point & 1)) continue;
        for (Index first = k, last; first < chunk_end; first = last) {
          last = std::min(chunk_end, end(first));
          if (!live(first, point)) continue;
          while (last < chunk_end && live(last, point)) {
            last = std::min(chunk_end, end(last));
          }
          Product(count, width, last - first,
                  inputs + point * stride + first, tile_stride, 1,
                  weights + point * kernel_plane + (first - k) * width,
                  products + point * output_plane, started[point]);
          started[point] = true;
        }
      }
    }
    for (int point = 0; point < kPoints; ++point) {
      if (started[point]) continue;
      std::fill_n(products + point * output_plane, count * width, 0.0f);
    }
    WriteTiles(output, tiles, {n, std::min(last_column, channels.last)},
               products, output_plane, width);
  }
}

// The floats of a whole kernel's transforms.
Index KernelSize(Index depth, Index columns) {
  return Parts(columns, kPanel) * kPoints * PlaneSize(depth, kPanel);
}

// A whole kernel: panel after panel, each as planes.
void TransformKernel(ffi::ThreadPool& pool, const Kernel& kernel, bool strided,
                     float* planes) {
  const Index depth = kernel.InputChannels(strided);
  const Index columns = Padded(kernel.OutputChannels(strided));
  ParallelFor(pool, Parts(columns, kPanel), [&](Index task) {
    const Index first = task * kPanel;
    const Index last = std::min(columns, first + kPanel);
    TransformPanel(kernel, strided, {0, depth}, {first, last},
                   planes + task * kPoints * PlaneSize(depth, kPanel),
                   PlaneSize(depth, last - first));
  });
}

// The whole convolution; `planes` as there.
void ConvolveAll(ffi::ThreadPool& pool, const Grid& input, const Kernel& kernel,
                 const float* planes, const Grid& output) {
  const Index depth = input.channels(), columns = Padded(output.channels());
  const bool small = depth * columns < kSharedPlane;
  // Many tiles share a transformed kernel that fits into the cache. For few, or
  // with a large kernel, each task makes what it needs of it.
  if (!planes && small && output.tiles() > kManyTiles) {
    float* shared = Scratch<1>(KernelSize(depth, columns));
    TransformKernel(pool, kernel, input.parts == 2, shared);
    planes = shared;
  }
  // The transformed tiles stay in the cache while the kernel passes by.
  const Index most = std::clamp(6144 / depth, 2 * kRows, 4 * kRows);
  const Index tiles =
      Parts(output.tiles(), planes && small ? most : kManyTiles);
  const Index slices =
      std::min(Parts(columns, kPanel),
               std::max(Parts(columns, 256), Parts(pool.num_threads(), tiles)));
  ParallelFor(pool, tiles * slices, [&](Index task) {
    ConvolveTiles(input, kernel, planes, output,
                  PartOf(output.tiles(), tiles, task % tiles),
                  PartOf(output.channels(), slices, task / tiles, kPanel));
  });
}

ffi::Error Convolve(ffi::ThreadPool pool, Buffer4 x, Buffer4 weights,
                    ffi::Result<Buffer4> y, bool big_first) {
  const bool strided = y->dimensions()[1] < x.dimensions()[1];
  ConvolveAll(pool, Grid(x, strided ? 2 : 1), Kernel(weights, big_first),
              nullptr, Grid(*y, strided ? 1 : 2));
  return ffi::Error::Success();
}

// Makes the planes of a kernel for `ConvolvePrepared`, to be used many times.
ffi::Error Prepare(ffi::ThreadPool pool, Buffer4 weights,
                   ffi::Result<Buffer1> planes, bool strided, bool big_first) {
  const Kernel kernel(weights, big_first);
  const Index size = KernelSize(kernel.InputChannels(strided),
                                kernel.OutputChannels(strided));
  if (Index(planes->element_count()) != size) {
    return ffi::Error::InvalidArgument("the planes have another size");
  }
  TransformKernel(pool, kernel, strided, planes->typed_data());
  return ffi::Error::Success();
}

ffi::Error ConvolvePrepared(ffi::ThreadPool pool, Buffer4 x, Buffer1 planes,
                            ffi::Result<Buffer4> y) {
  const bool strided = y->dimensions()[1] < x.dimensions()[1];
  const Index of_x = x.dimensions()[3], of_y = y->dimensions()[3];
  const Kernel kernel(nullptr, strided ? of_x : of_y, strided ? of_y : of_x,
                      true);
  ConvolveAll(pool, Grid(x, strided ? 2 : 1), kernel, planes.typed_data(),
              Grid(*y, strided ? 1 : 2));
  return ffi::Error::Success();
}

// The gradient of either convolution in its kernel, summed over `tiles`, for
// some channels of the small image and of the big one's blocks.
void KernelGradientOfTiles(const Grid& big, const Grid& small,
                           const Kernel& gradient, Slice tiles, Slice rows,
                           Slice channels) {
  const Index columns = Padded(channels.size());
  const Index padded_rows = Padded(rows.size());
  const Index most = std::min<Index>(32, tiles.size());
  const Index small_plane = PlaneSize(most, padded_rows);
  const Index big_plane = PlaneSize(most, columns);
  const Index sum_plane = PlaneSize(rows.size(), columns);
  float* smalls = Scratch<0>(kPoints * (small_plane + big_plane + sum_plane));
  float* bigs = smalls + kPoints * small_plane;
  float* sums = bigs + kPoints * big_plane;
  for (Index first = tiles.first; first < tiles.last; first += most) {
    const Slice some = {first, std::min(tiles.last, first + most)};
    const Index count = some.size();
    TransformTiles<kInput, 6>(small, some, rows, false, smalls, small_plane,
                              padded_rows);
    TransformTiles<kOutputTransposed, 4>(big, some, channels, true, bigs,
                                         big_plane, 0);
    for (int point = 0; point < kPoints; ++point) {
      for (Index n = 0; n < columns; n += kPanel) {
        const Index width = std::min(kPanel, columns - n);
        float* result = sums + point * sum_plane + n * rows.size();
        const Slice panel = {channels.first + n, channels.first + n + width};
        if (gradient.LivePoints(false, panel) >> point & 1) {
          Product(rows.size(), width, count, smalls + point * small_plane, 1,
                  padded_rows, bigs + point * big_plane + n * count, result,
                  first > tiles.first);
        } else if (first == tiles.first) {
          std::fill_n(result, rows.size() * width, 0.0f);
        }
      }
    }
  }

  for (Index n = 0; n < channels.size(); n += kLanes) {
    const Runs runs(4, gradient.big, channels.first + n);
    const Index panel = n / kPanel * kPanel;
    const Index width = std::min(kPanel, columns - panel);
    const float* from = sums + panel * rows.size() + n - panel;
    for (Index k = rows.first; k < rows.last; ++k, from += width) {
      Vec taps[9];
      Transform<kKernelTransposed>(
          [&](int i) { return Load(from + i * sum_plane); },
          [&](int i, Vec v) { taps[i] = v; });
      for (int r = 0; r < runs.count; ++r) {
        const Run& run = runs.run[r];
        for (int tap = 0; tap < 9; ++tap) {
          float* to = gradient.Tap(false, tap, run.part);
          if (to == nullptr) continue;
          to += run.first * gradient.big_stride + k * gradient.small_stride;
          for (Index i = 0; i < run.size && n + run.lane + i < channels.size();
               ++i) {
            to[i * gradient.big_stride] = taps[tap][run.lane + i];
          }
        }
      }
    }
  }
}

// Gives [parts, 5, 5, ...], sums over equal parts of the tiles.
ffi::Error KernelGradient(ffi::ThreadPool pool, Buffer4 image, Buffer4 other,
                          ffi::Result<Buffer5> result,
                          bool big_first) {
  const Grid big(image, 2), small(other, 1);
  const Index parts = result->dimensions()[0];
  const Index size = result->element_count() / parts;
  const Index row_slices = Parts(small.channels(), 64);
  const Index slices = Parts(big.channels(), 128);
  ParallelFor(pool, parts * row_slices * slices, [&](Index task) {
    const Index part = task % parts, slice = task / parts;
    const Kernel gradient(result->typed_data() + part * size, big.length / 2,
                          small.length, big_first);
    KernelGradientOfTiles(
        big, small, gradient, PartOf(small.tiles(), parts, part),
        PartOf(small.channels(), row_slices, slice % row_slices),
        PartOf(big.channels(), slices, slice / row_slices, kPanel));
  });
  return ffi::Error::Success();
}

}  // namespace

extern "C" Index DcganPreparedSize(Index depth, Index columns) {
  return KernelSize(depth, columns);
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    DcganConvolve, Convolve,
    ffi::Ffi::Bind()
        .Ctx<ffi::ThreadPool>()
        .Arg<Buffer4>()
        .Arg<Buffer4>()
        .Ret<Buffer4>()
        .Attr<bool>("big_first"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    DcganPrepare, Prepare,
    ffi::Ffi::Bind()
        .Ctx<ffi::ThreadPool>()
        .Arg<Buffer4>()
        .Ret<Buffer1>()
        .Attr<bool>("strided")
        .Attr<bool>("big_first"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    DcganConvolvePrepared, ConvolvePrepared,
    ffi::Ffi::Bind()
        .Ctx<ffi::ThreadPool>()
        .Arg<Buffer4>()
        .Arg<Buffer1>()
        .Ret<Buffer4>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    DcganKernelGradient, KernelGradient,
    ffi::Ffi::Bind()
        .Ctx<ffi::ThreadPool>()
        .Arg<Buffer4>()
        .Arg<Buffer4>()
        .Ret<Buffer5>()
        .Attr<bool>("big_first"));
