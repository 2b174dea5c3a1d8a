// core/ops/check.h: what the ops ask of their operands, with one form of message:
//   [rms_norm] y: expected [4, 512] f32 or bf16, got [4, 256] f32
// Operands come from Strait's own code, so a wrong one is an InternalError.
#pragma once

#include <initializer_list>

#include "core/tensor.h"

namespace strait {

inline constexpr int64_t kAnySize = -1;
inline constexpr std::initializer_list<DType> kActivationTypes = {DType::f32, DType::bf16};

// The matrix view of the tensor (all dimensions but the last are rows); rows may be strided.
void check_matrix(const char* op, const char* name, const Tensor& tensor, int64_t rows,
                  int64_t cols, std::initializer_list<DType> dtypes);
// A contiguous tensor of `numel` elements of any shape.
void check_flat(const char* op, const char* name, const Tensor& tensor, int64_t numel,
                std::initializer_list<DType> dtypes);
[[noreturn]] void throw_operand(const char* op, const std::string& message);

}  // namespace strait
