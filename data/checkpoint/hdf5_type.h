// data/checkpoint/hdf5_type.h: how a dtype is stored.
#pragma once

#include "core/dtype.h"
#include "core/errors.h"
#include "data/hdf5/file.h"

namespace strait::checkpoint {

// HDF5 has no bf16: its bits are stored as u16, and the dataset's name says bf16.
inline hdf5::Type hdf5_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return hdf5::Type::f32;
    case DType::i32:
      return hdf5::Type::i32;
    case DType::i64:
      return hdf5::Type::i64;
    case DType::bf16:
    case DType::u16:
      return hdf5::Type::u16;
    case DType::u8:
    case DType::e4m3:
      return hdf5::Type::u8;
  }
  throw InternalError("[checkpoint] not a dtype");
}

}  // namespace strait::checkpoint
