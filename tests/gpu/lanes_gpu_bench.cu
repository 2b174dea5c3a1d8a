// What a GPU's lanes stand on: copies, exchanges staged through the host, multiprocessors set apart
// for communication, work beside work, NCCL.
//   lanes_gpu_bench DIR copies|staged|green|beside|nccl
#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>
#include <nccl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "core/ops/cuda/device.h"
#include "core/ops/cuda/gemm_lt.h"
#include "tests/gpu/bench_time.h"

namespace strait::cuda {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

constexpr int64_t kMiB = 1 << 20;

struct Stream {
  cudaStream_t stream = nullptr;
  explicit Stream(int priority = 0) {
    STRAIT_CUDA_CALL(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, priority));
  }
  ~Stream() { cudaStreamDestroy(stream); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
};

__global__ void nothing() {}

// Dependent multiply-adds: a block takes the same time wherever it runs.
__global__ void compute(float* out, int64_t rounds) {
  float x = float(threadIdx.x);
  for (int64_t i = 0; i < rounds; ++i) x = fmaf(x, 0.999f, 0.5f);
  if (x == 12345.f) *out = x;
}

// As a dispatch does: every block moves rows of 16-byte words.
__global__ void copy_rows(const int4* from, int4* to, int64_t words) {
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < words;
       i += int64_t(gridDim.x) * blockDim.x)
    to[i] = from[i];
}

void copies(BenchTable& table) {
  constexpr int64_t kBytes = 256 * kMiB;
  const Buffer a(kBytes), b(kBytes);
  void *up = nullptr, *down = nullptr;
  STRAIT_CUDA_CALL(cudaMallocHost(&up, kBytes));
  STRAIT_CUDA_CALL(cudaMallocHost(&down, kBytes));
  const Stream first, second;
  const auto gbs = [&](double ms, double factor = 1) { return factor * kBytes / ms / 1e6; };
  const auto host_to_device = [&](cudaStream_t s) {
    STRAIT_CUDA_CALL(cudaMemcpyAsync(a.data(), up, kBytes, cudaMemcpyHostToDevice, s));
  };
  const auto device_to_host = [&](cudaStream_t s) {
    STRAIT_CUDA_CALL(cudaMemcpyAsync(down, b.data(), kBytes, cudaMemcpyDeviceToHost, s));
  };
  table.row("256 MiB", "host to device, pinned",
            gbs(median_ms([&](int) { host_to_device(first.stream); }, first.stream, 10)), "GB/s");
  table.row("256 MiB", "device to host, pinned",
            gbs(median_ms([&](int) { device_to_host(first.stream); }, first.stream, 10)), "GB/s");
  STRAIT_CUDA_CALL(cudaDeviceSynchronize());
  const auto start = Clock::now();
  for (int i = 0; i < 10; ++i) {
    host_to_device(first.stream);
    device_to_host(second.stream);
  }
  STRAIT_CUDA_CALL(cudaDeviceSynchronize());
  table.row("256 MiB", "both at once, each way", 10 * kBytes / seconds_since(start) / 1e9, "GB/s");
  table.row("256 MiB", "device to device, copy engine, read + written",
            gbs(median_ms(
                    [&](int) {
                      STRAIT_CUDA_CALL(cudaMemcpyAsync(b.data(), a.data(), kBytes,
                                                       cudaMemcpyDeviceToDevice, first.stream));
                    },
                    first.stream, 10),
                2),
            "GB/s");
  for (const int blocks : {8, 16, 32, 132}) {
    const double ms = median_ms(
        [&](int) {
          copy_rows<<<blocks, 1024, 0, first.stream>>>(a.as<int4>(), b.as<int4>(), kBytes / 16);
        },
        first.stream, 10);
    table.row("256 MiB",
              "device to device, kernel of " + std::to_string(blocks) + " blocks, read + written",
              gbs(ms, 2), "GB/s");
  }
  STRAIT_CUDA_CALL(cudaDeviceSynchronize());
  constexpr int kLaunches = 2000;
  auto begun = Clock::now();
  for (int i = 0; i < kLaunches; ++i) nothing<<<1, 32, 0, first.stream>>>();
  const double issued = seconds_since(begun);
  STRAIT_CUDA_CALL(cudaDeviceSynchronize());
  table.row("empty kernel", "issue, host", 1e6 * issued / kLaunches, "us");
  table.row("empty kernel", "issue to end, back to back", 1e6 * seconds_since(begun) / kLaunches,
            "us");
  cudaEvent_t edge = nullptr;
  STRAIT_CUDA_CALL(cudaEventCreateWithFlags(&edge, cudaEventDisableTiming));
  begun = Clock::now();
  for (int i = 0; i < kLaunches; ++i) {
    const cudaStream_t from = i % 2 == 0 ? first.stream : second.stream;
    nothing<<<1, 32, 0, from>>>();
    STRAIT_CUDA_CALL(cudaEventRecord(edge, from));
    STRAIT_CUDA_CALL(cudaStreamWaitEvent(i % 2 == 0 ? second.stream : first.stream, edge, 0));
  }
  STRAIT_CUDA_CALL(cudaDeviceSynchronize());
  table.row("empty kernel", "then an event to the other stream",
            1e6 * seconds_since(begun) / kLaunches, "us");
}

// Processes on one GPU hand buffers on: device to pinned shared memory, barrier, the neighbour's
// shared memory to the device. Forked before any of them touches CUDA.
void staged(BenchTable& table, int ranks) {
  constexpr int64_t kBytes = 64 * kMiB;
  constexpr int kRounds = 10;
  struct Shared {
    pthread_barrier_t barrier;
    double seconds[16];
    int wrong[16];
  };
  const auto shared_memory = [](int64_t bytes) {
    return mmap(nullptr, size_t(bytes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  };
  auto* shared = static_cast<Shared*>(shared_memory(sizeof(Shared)));
  auto* buffers = static_cast<char*>(shared_memory(ranks * kBytes));
  pthread_barrierattr_t attributes;
  pthread_barrierattr_init(&attributes);
  pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_barrier_init(&shared->barrier, &attributes, unsigned(ranks));
  std::vector<pid_t> children;
  for (int rank = 0; rank < ranks; ++rank) {
    const pid_t child = fork();
    if (child != 0) {
      children.push_back(child);
      continue;
    }
    try {
      char* own = buffers + rank * kBytes;
      char* neighbours = buffers + (rank + 1) % ranks * kBytes;
      const Buffer send(kBytes), receive(kBytes);
      STRAIT_CUDA_CALL(cudaMemset(send.data(), 10 + rank, kBytes));
      STRAIT_CUDA_CALL(cudaHostRegister(own, kBytes, cudaHostRegisterDefault));
      STRAIT_CUDA_CALL(cudaHostRegister(neighbours, kBytes, cudaHostRegisterDefault));
      const Stream stream;
      Clock::time_point start;
      for (int round = -2; round < kRounds; ++round) {
        pthread_barrier_wait(&shared->barrier);
        if (round == 0) start = Clock::now();
        STRAIT_CUDA_CALL(
            cudaMemcpyAsync(own, send.data(), kBytes, cudaMemcpyDeviceToHost, stream.stream));
        STRAIT_CUDA_CALL(cudaStreamSynchronize(stream.stream));
        pthread_barrier_wait(&shared->barrier);
        STRAIT_CUDA_CALL(cudaMemcpyAsync(receive.data(), neighbours, kBytes, cudaMemcpyHostToDevice,
                                         stream.stream));
        STRAIT_CUDA_CALL(cudaStreamSynchronize(stream.stream));
      }
      shared->seconds[rank] = seconds_since(start) / kRounds;
      std::vector<char> got(kBytes);
      STRAIT_CUDA_CALL(cudaMemcpy(got.data(), receive.data(), kBytes, cudaMemcpyDeviceToHost));
      for (const char x : got) shared->wrong[rank] += x != 10 + (rank + 1) % ranks;
      _exit(0);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "rank %d: %s\n", rank, error.what());
      _exit(1);
    }
  }
  double slowest = 0;
  bool good = true;
  for (int rank = 0; rank < ranks; ++rank) {
    int status = 0;
    waitpid(children[size_t(rank)], &status, 0);
    good = good && WIFEXITED(status) && WEXITSTATUS(status) == 0 && shared->wrong[rank] == 0;
    slowest = std::max(slowest, shared->seconds[rank]);
  }
  if (!good) throw DeviceError("staged exchange: a process failed, or its bytes were wrong");
  table.row(std::to_string(ranks) + " processes, 64 MiB each",
            "through pinned shared memory, per process", kBytes / slowest / 1e9, "GB/s");
}

template <class Function>
Function driver_function(const char* name, int version) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  STRAIT_CUDA_CALL(cudaGetDriverEntryPointByVersion(name, &function, unsigned(version),
                                                    cudaEnableDefault, &found));
  if (found != cudaDriverEntryPointSuccess) throw DeviceError(std::string("no ") + name);
  return reinterpret_cast<Function>(function);
}
void ok(CUresult result, const char* what) {
  if (result != CUDA_SUCCESS)
    throw DeviceError(std::string(what) + ": CUresult " + std::to_string(int(result)));
}

// Streams that own 16 multiprocessors, and all the others: does work on both take as long together
// as the longer alone?
void green(BenchTable& table) {
  STRAIT_CUDA_CALL(cudaFree(nullptr));
  const auto get =
      driver_function<decltype(&cuDeviceGetDevResource)>("cuDeviceGetDevResource", 12040);
  const auto split =
      driver_function<decltype(&cuDevSmResourceSplitByCount)>("cuDevSmResourceSplitByCount", 12040);
  const auto describe =
      driver_function<decltype(&cuDevResourceGenerateDesc)>("cuDevResourceGenerateDesc", 12040);
  const auto create = driver_function<decltype(&cuGreenCtxCreate)>("cuGreenCtxCreate", 12040);
  const auto stream_create =
      driver_function<decltype(&cuGreenCtxStreamCreate)>("cuGreenCtxStreamCreate", 12050);
  CUdevResource all{}, small{}, rest{};
  unsigned groups = 1;
  ok(get(0, &all, CU_DEV_RESOURCE_TYPE_SM), "cuDeviceGetDevResource");
  ok(split(&small, &groups, &all, &rest, 0, 16), "cuDevSmResourceSplitByCount");
  const auto stream_of = [&](CUdevResource& resource) {
    CUdevResourceDesc description{};
    CUgreenCtx context{};
    CUstream stream{};
    ok(describe(&description, &resource, 1), "cuDevResourceGenerateDesc");
    ok(create(&context, description, 0, CU_GREEN_CTX_DEFAULT_STREAM), "cuGreenCtxCreate");
    ok(stream_create(&stream, context, CU_STREAM_NON_BLOCKING, 0), "cuGreenCtxStreamCreate");
    return static_cast<cudaStream_t>(stream);
  };
  const cudaStream_t wide = stream_of(rest), narrow = stream_of(small);
  table.row("split", "multiprocessors of the small part", double(small.sm.smCount), "");
  table.row("split", "multiprocessors of the rest", double(rest.sm.smCount), "");
  constexpr int64_t kRounds = 2'000'000;  // about 5 ms
  const Buffer out(4);
  const auto fill = [&](cudaStream_t stream, int blocks) {
    compute<<<unsigned(blocks), 1024, 0, stream>>>(out.as<float>(), kRounds);
  };
  const auto time = [&](auto launch) {
    launch();
    STRAIT_CUDA_CALL(cudaDeviceSynchronize());
    const auto start = Clock::now();
    launch();
    STRAIT_CUDA_CALL(cudaDeviceSynchronize());
    return 1e3 * seconds_since(start);
  };
  const int wide_blocks = 2 * int(rest.sm.smCount), narrow_blocks = 2 * int(small.sm.smCount);
  table.row("compute", "rest alone", time([&] { fill(wide, wide_blocks); }), "ms");
  table.row("compute", "small part alone", time([&] { fill(narrow, narrow_blocks); }), "ms");
  table.row("compute", "both", time([&] {
              fill(wide, wide_blocks);
              fill(narrow, narrow_blocks);
            }),
            "ms");
  table.row("compute", "small part's work twice on the rest alone",
            time([&] { fill(narrow, 2 * narrow_blocks); }), "ms");
}

// A product and a copy, one after the other and beside each other.
void beside(BenchTable& table) {
  constexpr int64_t kM = 4096, kN = 7168, kK = 16384, kCopied = 512 * kMiB;
  const Buffer x(kM * kK * 2), w(kN * kK * 2), d(kM * kN * 2), from(kCopied), to(kCopied);
  for (const Buffer* buffer : {&x, &w, &from})
    STRAIT_CUDA_CALL(cudaMemset(buffer->data(), 0x3c, size_t(buffer->bytes())));
  GemmLt gemm;
  const Stream work(0), comm(-5);
  constexpr int kProducts = 8;
  const auto products = [&](int sms) {
    for (int i = 0; i < kProducts; ++i)
      gemm.run({.input = GemmInput::bf16, .m = kM, .n = kN, .k = kK, .num_sms = sms},
               {.x = x.data(), .w = w.data(), .d = d.data()}, work.stream);
  };
  const auto copy = [&](int blocks) {
    for (int i = 0; i < 4; ++i)
      copy_rows<<<unsigned(blocks), 1024, 0, comm.stream>>>(from.as<int4>(), to.as<int4>(),
                                                            kCopied / 16);
  };
  const auto time = [&](auto launch) {
    double best = 1e9;
    launch();
    for (int i = 0; i < 5; ++i) {
      STRAIT_CUDA_CALL(cudaDeviceSynchronize());
      const auto start = Clock::now();
      launch();
      STRAIT_CUDA_CALL(cudaDeviceSynchronize());
      best = std::min(best, 1e3 * seconds_since(start));
    }
    return best;
  };
  for (const int sms : {0, 116}) {
    const std::string cap =
        sms == 0 ? "product on all" : "product capped at " + std::to_string(sms);
    for (const int blocks : {16, 32}) {
      const std::string how = cap + ", copy of " + std::to_string(blocks) + " blocks";
      table.row("8 BF16 products of 4096 x 7168 x 16384", how + ": products alone",
                time([&] { products(sms); }), "ms");
      table.row("copy of 4 x 512 MiB", how + ": copy alone", time([&] { copy(blocks); }), "ms");
      table.row("both", how + ": together, products first", time([&] {
                  products(sms);
                  copy(blocks);
                }),
                "ms");
    }
  }
}

void nccl_ok(ncclResult_t result, const char* what) {
  if (result != ncclSuccess && result != ncclInProgress)
    throw DeviceError(std::string("NCCL: ") + what + ": " + ncclGetErrorString(result));
}

void nccl(BenchTable& table) {
  STRAIT_CUDA_CALL(cudaFree(nullptr));
  int version = 0;
  nccl_ok(ncclGetVersion(&version), "ncclGetVersion");
  table.row("NCCL", "version", version, "");
  ncclUniqueId id;
  nccl_ok(ncclGetUniqueId(&id), "ncclGetUniqueId");
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  config.maxCTAs = 16;
  const auto start = Clock::now();
  ncclComm_t comm = nullptr;
  nccl_ok(ncclCommInitRankConfig(&comm, 1, id, 0, &config), "ncclCommInitRankConfig");
  const auto settle = [&](const char* what) {
    ncclResult_t state = ncclInProgress;
    const auto begun = Clock::now();
    while (state == ncclInProgress) {
      nccl_ok(ncclCommGetAsyncError(comm, &state), what);
      if (seconds_since(begun) > 20) throw DeviceError(std::string("NCCL: silent in ") + what);
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    nccl_ok(state, what);
  };
  settle("initialisation");
  table.row("NCCL", "non-blocking initialisation of one rank", 1e3 * seconds_since(start), "ms");
  constexpr int64_t kBytes = 64 * kMiB;
  void* memory = nullptr;
  nccl_ok(ncclMemAlloc(&memory, 2 * kBytes), "ncclMemAlloc");
  const Stream stream;
  char *send = static_cast<char*>(memory), *receive = send + kBytes;
  STRAIT_CUDA_CALL(cudaMemset(send, 7, kBytes));
  STRAIT_CUDA_CALL(cudaMemset(receive, 0, kBytes));
  nccl_ok(ncclGroupStart(), "ncclGroupStart");
  nccl_ok(ncclSend(send, kBytes, ncclChar, 0, comm, stream.stream), "ncclSend");
  nccl_ok(ncclRecv(receive, kBytes, ncclChar, 0, comm, stream.stream), "ncclRecv");
  nccl_ok(ncclGroupEnd(), "ncclGroupEnd");
  settle("send to itself");
  STRAIT_CUDA_CALL(cudaStreamSynchronize(stream.stream));
  std::vector<char> got(kBytes);
  STRAIT_CUDA_CALL(cudaMemcpy(got.data(), receive, kBytes, cudaMemcpyDeviceToHost));
  int64_t wrong = 0;
  for (const char x : got) wrong += x != 7;
  table.row("NCCL", "grouped send and receive of 64 MiB to itself, wrong bytes", double(wrong), "");
  nccl_ok(ncclAllReduce(send, receive, kBytes / 4, ncclFloat, ncclSum, comm, stream.stream),
          "ncclAllReduce");
  settle("all-reduce");
  STRAIT_CUDA_CALL(cudaStreamSynchronize(stream.stream));
  ncclWindow_t window{};
  const ncclResult_t registered =
      ncclCommWindowRegister(comm, memory, 2 * kBytes, &window, NCCL_WIN_COLL_SYMMETRIC);
  table.row("NCCL", std::string("window of symmetric memory: ") + ncclGetErrorString(registered),
            double(registered), "");
  const auto aborting = Clock::now();
  nccl_ok(ncclCommAbort(comm), "ncclCommAbort");
  table.row("NCCL", "abort", 1e3 * seconds_since(aborting), "ms");
}

int run(const std::string& folder, const std::string& part) {
  BenchTable table(folder, "lanes_" + part);
  if (part == "copies") copies(table);
  if (part == "staged")
    for (const int ranks : {2, 4}) staged(table, ranks);
  if (part == "green") green(table);
  if (part == "beside") beside(table);
  if (part == "nccl") nccl(table);
  return 0;
}

}  // namespace
}  // namespace strait::cuda

int main(int argc, char** argv) {
  const std::vector<std::string> parts{"copies", "staged", "green", "beside", "nccl"};
  if (argc != 3 || std::find(parts.begin(), parts.end(), argv[2]) == parts.end()) {
    std::fputs("usage: lanes_gpu_bench DIR copies|staged|green|beside|nccl\n", stderr);
    return 2;
  }
  try {
    return strait::cuda::run(argv[1], argv[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "lanes_gpu_bench: %s\n", error.what());
    return 1;
  }
}
