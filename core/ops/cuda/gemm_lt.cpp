#include "core/ops/cuda/gemm_lt.h"

namespace strait::cuda {
namespace {

constexpr uintptr_t kAlignment = 256;          // what cuBLASLt's search takes for granted
constexpr int64_t kWorkspaceBytes = 32 << 20;  // what cuBLAS recommends on Hopper

#define STRAIT_CUBLAS_CALL(call)                                                               \
  do {                                                                                         \
    const cublasStatus_t strait_status = (call);                                               \
    if (strait_status != CUBLAS_STATUS_SUCCESS) [[unlikely]]                                   \
      throw_device_error(#call, __FILE__, __LINE__, ::cublasLtGetStatusString(strait_status)); \
  } while (0)

cublasLtMatmulMatrixScale_t scale_mode(ScaleLayout layout) {
  return layout == ScaleLayout::rows_1x128 ? CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F
                                           : CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F;
}

std::string not_a_multiple(const char* name, int64_t value, int64_t of, const char* why) {
  if (value > 0 && value % of == 0) return "";
  return std::string(name) + " = " + std::to_string(value) + " is no positive multiple of " +
         std::to_string(of) + why;
}

}  // namespace

std::string GemmShape::text() const {
  std::string text = input == GemmInput::fp8 ? "fp8 " : "bf16 ";
  text += std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k);
  if (input == GemmInput::fp8)
    text += std::string(" (") + name_of(x_layout) + ", " + name_of(w_layout) + ")";
  text += output == GemmOutput::bf16 ? " -> bf16" : " -> f32";
  return num_sms > 0 ? text + " on " + std::to_string(num_sms) + " SMs" : text;
}

std::string why_refused(const GemmShape& shape) {
  if (shape.input == GemmInput::bf16) {
    for (const auto& reason :
         {not_a_multiple("m", shape.m, 1, ""), not_a_multiple("n", shape.n, 8, ""),
          not_a_multiple("k", shape.k, 8, "")}) {
      if (!reason.empty()) return reason;
    }
    return "";
  }
  if (shape.x_layout == ScaleLayout::blocks_128x128 &&
      shape.w_layout == ScaleLayout::blocks_128x128) {
    return "both operands have 128x128 scales; at least one takes 1x128";
  }
  for (const auto& reason : {not_a_multiple("k", shape.k, 16, " (rows of FP8 at 16 bytes)"),
                             not_a_multiple("n", shape.n, 8, " (cuBLASLt, FP8)"),
                             not_a_multiple("m", shape.m, 8, " (cuBLASLt, FP8)")}) {
    if (!reason.empty()) return reason;
  }
  return "";
}

// cuBLASLt is column-major: its A is w, its B is x, its m is N and its n is M, and it takes FP8
// with A transposed alone.
class GemmLt::Plan {
 public:
  Plan(cublasLtHandle_t handle, const GemmShape& shape, const GemmOperands& operands) {
    STRAIT_CUBLAS_CALL(cublasLtMatmulDescCreate(&operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
    set(CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N);
    if (shape.input == GemmInput::fp8) {
      // Fast accumulation stays off, its default: with block scales it is not supported, and sums
      // would lose bits.
      set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, scale_mode(shape.w_layout));
      set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, scale_mode(shape.x_layout));
      set_scales(operands);  // the search looks whether there are any
    }
    if (shape.num_sms > 0)
      set(CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET, static_cast<int32_t>(shape.num_sms));
    const cudaDataType in = shape.input == GemmInput::fp8 ? CUDA_R_8F_E4M3 : CUDA_R_16BF;
    const cudaDataType out = shape.output == GemmOutput::bf16 ? CUDA_R_16BF : CUDA_R_32F;
    const auto m = static_cast<uint64_t>(shape.m), n = static_cast<uint64_t>(shape.n);
    const auto k = static_cast<uint64_t>(shape.k);
    STRAIT_CUBLAS_CALL(cublasLtMatrixLayoutCreate(&w_, in, k, n, shape.k));
    STRAIT_CUBLAS_CALL(cublasLtMatrixLayoutCreate(&x_, in, k, m, shape.k));
    STRAIT_CUBLAS_CALL(cublasLtMatrixLayoutCreate(&d_, out, n, m, shape.n));
    cublasLtMatmulPreference_t preference = nullptr;
    STRAIT_CUBLAS_CALL(cublasLtMatmulPreferenceCreate(&preference));
    const auto bytes = static_cast<uint64_t>(kWorkspaceBytes);
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                         &bytes, sizeof bytes);
    int found = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle, operation_, w_, x_, d_, d_, preference, 1, &algorithm_, &found);
    cublasLtMatmulPreferenceDestroy(preference);
    if (status != CUBLAS_STATUS_SUCCESS || found == 0) {
      throw_device_error(
          "cublasLtMatmulAlgoGetHeuristic", __FILE__, __LINE__,
          "no algorithm for " + shape.text() + " (" + cublasLtGetStatusString(status) + ")");
    }
  }
  ~Plan() {
    cublasLtMatmulDescDestroy(operation_);
    for (cublasLtMatrixLayout_t layout : {w_, x_, d_}) cublasLtMatrixLayoutDestroy(layout);
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  void run(cublasLtHandle_t handle, const GemmOperands& o, const Buffer& workspace,
           cudaStream_t stream) {
    const float alpha = 1.0f, beta = o.accumulate ? 1.0f : 0.0f;
    set_scales(o);
    STRAIT_CUBLAS_CALL(cublasLtMatmul(handle, operation_, &alpha, o.w, w_, o.x, x_, &beta, o.d, d_,
                                      o.d, d_, &algorithm_.algo, workspace.data(),
                                      static_cast<size_t>(workspace.bytes()), stream));
  }

 private:
  void set_scales(const GemmOperands& operands) {
    if (operands.w_scales != nullptr) set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, operands.w_scales);
    if (operands.x_scales != nullptr) set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, operands.x_scales);
  }
  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    STRAIT_CUBLAS_CALL(cublasLtMatmulDescSetAttribute(operation_, attribute, &value, sizeof value));
  }

  cublasLtMatmulDesc_t operation_ = nullptr;
  cublasLtMatrixLayout_t w_ = nullptr, x_ = nullptr, d_ = nullptr;
  cublasLtMatmulHeuristicResult_t algorithm_{};
};

GemmLt::GemmLt() : workspace_(kWorkspaceBytes) { STRAIT_CUBLAS_CALL(cublasLtCreate(&handle_)); }

GemmLt::~GemmLt() {
  plans_.clear();
  cublasLtDestroy(handle_);
}

GemmLt::Plan& GemmLt::plan(const GemmShape& shape, const GemmOperands& operands) {
  auto& plan = plans_[shape];
  if (plan == nullptr) plan = std::make_unique<Plan>(handle_, shape, operands);
  return *plan;
}

void GemmLt::run(const GemmShape& shape, const GemmOperands& operands, cudaStream_t stream) {
  const std::string refused = why_refused(shape);
  if (!refused.empty()) throw InternalError("[gemm_lt] " + shape.text() + ": " + refused);
  if (operands.accumulate && shape.output != GemmOutput::f32) {
    throw InternalError("[gemm_lt] " + shape.text() +
                        ": adding to what is there takes FP32 output");
  }
  if (shape.input == GemmInput::fp8 &&
      (operands.x_scales == nullptr || operands.w_scales == nullptr)) {
    throw InternalError("[gemm_lt] " + shape.text() + ": no scales");
  }
  for (const void* data : {operands.x, operands.w, static_cast<const void*>(operands.d)}) {
    if (data == nullptr || reinterpret_cast<uintptr_t>(data) % kAlignment != 0) {
      throw InternalError("[gemm_lt] " + shape.text() + ": a matrix that is not at a multiple of " +
                          std::to_string(kAlignment) + " bytes");
    }
  }
  plan(shape, operands).run(handle_, operands, workspace_, stream);
}

}  // namespace strait::cuda
