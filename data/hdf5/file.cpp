#include "data/hdf5/file.h"

#include <fmt/format.h>
#include <hdf5.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "core/errors.h"
#include "data/hdf5/durable.h"
#include "data/hdf5/owner.h"

namespace strait::hdf5 {

struct FileState {
  std::shared_ptr<Owner> owner;
  std::string path;
  hid_t id = H5I_INVALID_HID;
  bool writable = false;
  // After a write that failed HDF5 1.10 may crash in any close (it has freed what its identifiers
  // point to), so the file and its datasets are left open, and no call is made for them any more.
  bool given_up = false;

  ~FileState() {
    if (id >= 0 && !given_up) owner->run([this] { H5Fclose(id); });
  }
};

namespace {

// Closes an identifier when the scope ends.
struct Scoped {
  hid_t id;
  herr_t (*close)(hid_t);
  Scoped(hid_t opened, herr_t (*closer)(hid_t)) : id(opened), close(closer) {}
  Scoped(const Scoped&) = delete;
  ~Scoped() {
    if (id >= 0) close(id);
  }
  operator hid_t() const { return id; }  // NOLINT(google-explicit-constructor): used as the id
};

// HDF5's innermost reason, the first an upward walk meets. Low-level drivers put the system's words
// between "error message = '" and "'".
std::string reason() {
  std::string text;
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_UPWARD,
      [](unsigned depth, const H5E_error2_t* entry, void* out) -> herr_t {
        if (depth == 0 && entry->desc != nullptr) *static_cast<std::string*>(out) = entry->desc;
        return 0;
      },
      &text);
  const std::string marker = "error message = '";
  if (const size_t at = text.find(marker); at != std::string::npos) {
    const size_t from = at + marker.size();
    text = text.substr(from, text.find('\'', from) - from);
  }
  return text.empty() ? "unknown HDF5 error" : text;
}

[[noreturn]] void fail(FileState& state, const std::string& doing) {
  const std::string why = reason();
  const std::string& path = state.path;
  state.given_up = state.writable;
  if (why == "No space left on device" || why == "Disk quota exceeded")
    throw DataError(fmt::format("{}: the disk is full: {} failed ({} bytes free)", path, doing,
                                free_disk_bytes(path)));
  throw DataError(fmt::format("{}: {} failed: {}", path, doing, why));
}

// HDF5's words for a file of another kind, or one that was cut, in plain ones.
[[noreturn]] void fail_opening(FileState& state) {
  const std::string why = reason();
  if (why == "file signature not found") throw DataError(state.path + ": is not an HDF5 file");
  unsigned long long size = 0, base = 0, wanted = 0;
  if (std::sscanf(why.c_str(),
                  "truncated file: eof = %llu, sblock->base_addr = %llu, stored_eof = %llu", &size,
                  &base, &wanted) == 3)
    throw DataError(
        fmt::format("{}: is cut short: it has {} of {} bytes", state.path, size, base + wanted));
  fail(state, "opening");
}

template <class Result>
Result checked(Result result, FileState& state, const std::string& doing) {
  if (result < 0) fail(state, doing);
  return result;
}

hid_t file_type(Type type) {
  switch (type) {
    case Type::u8:
      return H5T_STD_U8LE;
    case Type::u16:
      return H5T_STD_U16LE;
    case Type::u32:
      return H5T_STD_U32LE;
    case Type::u64:
      return H5T_STD_U64LE;
    case Type::i32:
      return H5T_STD_I32LE;
    case Type::i64:
      return H5T_STD_I64LE;
    case Type::f32:
      return H5T_IEEE_F32LE;
    case Type::f64:
      return H5T_IEEE_F64LE;
  }
  throw InternalError("hdf5: not a Type");
}

constexpr Type kTypes[] = {Type::u8,  Type::u16, Type::u32, Type::u64,
                           Type::i32, Type::i64, Type::f32, Type::f64};

bool exists(hid_t file, const std::string& name) {
  if (name == "/") return true;
  // H5Lexists fails, instead of saying no, when a parent is missing: ask for each prefix.
  for (size_t at = name.find('/', 1); at != std::string::npos; at = name.find('/', at + 1))
    if (H5Lexists(file, name.substr(0, at).c_str(), H5P_DEFAULT) <= 0) return false;
  return H5Lexists(file, name.c_str(), H5P_DEFAULT) > 0;
}

// Of a new file (its root group), group or dataset. Without times the same content has the same
// bytes.
hid_t creation_properties(hid_t of) {
  const hid_t properties = H5Pcreate(of);
  H5Pset_obj_track_times(properties, false);
  return properties;
}

hid_t access_properties() {
  const hid_t properties = H5Pcreate(H5P_FILE_ACCESS);
  H5Pset_fclose_degree(properties, H5F_CLOSE_STRONG);
  // New files get the format in which all metadata has checksums: HDF5 may crash on the older one
  // when it is damaged. HDF5 1.10 and later read it.
  H5Pset_libver_bounds(properties, H5F_LIBVER_V110, H5F_LIBVER_V110);
#if H5_VERSION_GE(1, 10, 7)
  // Readers never conflict and writers use names of their own; locks fail on many cluster file
  // systems.
  H5Pset_file_locking(properties, false, true);
#endif
  return properties;
}

hid_t live(const FileState& state) {
  if (state.given_up) throw DataError(state.path + ": an earlier write failed");
  if (state.id < 0) throw InternalError("hdf5: " + state.path + " is used after close()");
  return state.id;
}

void set_scalar(FileState& state, const std::string& object, const std::string& name, hid_t type,
                const void* value) {
  const std::string doing = "writing attribute " + name;
  if (H5Aexists_by_name(live(state), object.c_str(), name.c_str(), H5P_DEFAULT) > 0)
    checked(H5Adelete_by_name(state.id, object.c_str(), name.c_str(), H5P_DEFAULT), state, doing);
  const Scoped space(H5Screate(H5S_SCALAR), H5Sclose);
  const Scoped attribute(checked(H5Acreate_by_name(state.id, object.c_str(), name.c_str(), type,
                                                   space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                                 state, doing),
                         H5Aclose);
  checked(H5Awrite(attribute, type, value), state, doing);
}

// `size`: bytes, or H5T_VARIABLE.
hid_t string_type(size_t size) {
  const hid_t type = H5Tcopy(H5T_C_S1);
  H5Tset_size(type, size);
  H5Tset_strpad(type, size == H5T_VARIABLE ? H5T_STR_NULLTERM : H5T_STR_NULLPAD);
  H5Tset_cset(type, H5T_CSET_UTF8);
  return type;
}

// Opens a scalar attribute and refuses another class of type.
hid_t open_scalar(FileState& state, const std::string& object, const std::string& name,
                  H5T_class_t kind) {
  if (!exists(live(state), object) ||
      H5Aexists_by_name(state.id, object.c_str(), name.c_str(), H5P_DEFAULT) <= 0)
    throw DataError(fmt::format("{}: attribute '{}' of {} is missing", state.path, name, object));
  Scoped attribute(
      checked(H5Aopen_by_name(state.id, object.c_str(), name.c_str(), H5P_DEFAULT, H5P_DEFAULT),
              state, "opening attribute " + name),
      H5Aclose);
  const Scoped type(H5Aget_type(attribute), H5Tclose), space(H5Aget_space(attribute), H5Sclose);
  if (H5Tget_class(type) != kind || H5Sget_simple_extent_npoints(space) != 1)
    throw DataError(fmt::format("{}: attribute '{}' of {} has another type than expected",
                                state.path, name, object));
  return std::exchange(attribute.id, H5I_INVALID_HID);
}

}  // namespace

int64_t size_of(Type type) {
  switch (type) {
    case Type::u8:
      return 1;
    case Type::u16:
      return 2;
    case Type::u32:
    case Type::i32:
    case Type::f32:
      return 4;
    case Type::u64:
    case Type::i64:
    case Type::f64:
      return 8;
  }
  throw InternalError("hdf5: not a Type");
}

const char* name_of(Type type) {
  static constexpr const char* kNames[] = {"u8", "u16", "u32", "u64", "i32", "i64", "f32", "f64"};
  return kNames[static_cast<int>(type)];
}

// --- Dataset
// ---------------------------------------------------------------------------------------------

// Runs on the owner thread.
Dataset::Dataset(std::shared_ptr<FileState> file, std::string name, int64_t id)
    : file_(std::move(file)), name_(std::move(name)) {
  id_ = std::shared_ptr<const int64_t>(new int64_t(id), [state = file_](const int64_t* closing) {
    if (!state->given_up) state->owner->run([&] { H5Dclose(*closing); });
    delete closing;
  });
  const Scoped stored(H5Dget_type(id), H5Tclose), space(H5Dget_space(id), H5Sclose);
  const auto* found = std::find_if(std::begin(kTypes), std::end(kTypes), [&](Type candidate) {
    return H5Tequal(stored, file_type(candidate)) > 0;
  });
  const int rank = H5Sget_simple_extent_ndims(space);
  if (found == std::end(kTypes) || rank < 1)
    throw DataError(fmt::format("{}: dataset {} has a type or shape this program does not write",
                                file_->path, name_));
  type_ = *found;
  std::vector<hsize_t> dims(static_cast<size_t>(rank));
  H5Sget_simple_extent_dims(space, dims.data(), nullptr);
  shape_.assign(dims.begin(), dims.end());
}

int64_t Dataset::row_bytes() const {
  int64_t bytes = size_of(type_);
  for (size_t dim = 1; dim < shape_.size(); ++dim) bytes *= shape_[dim];
  return bytes;
}

int64_t Dataset::file_offset() const {
  int64_t offset = -1;
  file_->owner->run([&] {
    live(*file_);
    const haddr_t at = H5Dget_offset(*id_);
    if (at != HADDR_UNDEF) offset = static_cast<int64_t>(at);
  });
  return offset;
}

void Dataset::transfer(int64_t first_row, int64_t num_rows, void* memory, bool writing) const {
  STRAIT_CHECK(first_row >= 0 && num_rows >= 0 && first_row + num_rows <= shape_[0],
               fmt::format("{}: rows [{}, +{}) of {}", name_, first_row, num_rows, shape_[0]));
  if (num_rows == 0 || row_bytes() == 0) return;
  file_->owner->run([&] {
    live(*file_);
    std::vector<hsize_t> start(shape_.size(), 0), count(shape_.begin(), shape_.end());
    start[0] = static_cast<hsize_t>(first_row);
    count[0] = static_cast<hsize_t>(num_rows);
    const int rank = static_cast<int>(shape_.size());
    const Scoped in_file(H5Dget_space(*id_), H5Sclose);
    H5Sselect_hyperslab(in_file, H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr);
    const Scoped in_memory(H5Screate_simple(rank, count.data(), nullptr), H5Sclose);
    const hid_t type = file_type(type_);  // no conversion: Strait's hosts are little-endian
    if (writing)
      checked(H5Dwrite(*id_, type, in_memory, in_file, H5P_DEFAULT, memory), *file_,
              "writing " + name_);
    else
      checked(H5Dread(*id_, type, in_memory, in_file, H5P_DEFAULT, memory), *file_,
              "reading " + name_);
  });
}

void Dataset::read(int64_t first_row, int64_t num_rows, void* to) const {
  transfer(first_row, num_rows, to, false);
}

void Dataset::write(int64_t first_row, int64_t num_rows, const void* from) {
  transfer(first_row, num_rows, const_cast<void*>(from), true);
}

void Dataset::append(int64_t num_rows, const void* from) {
  if (num_rows == 0) return;
  const int64_t old_rows = shape_[0];
  file_->owner->run([&] {
    live(*file_);
    std::vector<hsize_t> dims(shape_.begin(), shape_.end());
    dims[0] += static_cast<hsize_t>(num_rows);
    checked(H5Dset_extent(*id_, dims.data()), *file_, "growing " + name_);
  });
  shape_[0] += num_rows;
  write(old_rows, num_rows, from);
}

// --- File
// ------------------------------------------------------------------------------------------------

File File::create(const std::string& path) {
  auto state = std::make_shared<FileState>();
  state->owner = Owner::of_process();
  state->path = path;
  state->writable = true;
  state->owner->run([&] {
    const Scoped creation(creation_properties(H5P_FILE_CREATE), H5Pclose);
    const Scoped access(access_properties(), H5Pclose);
    state->id =
        checked(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation, access), *state, "creating");
  });
  return File(std::move(state));
}

File File::open(const std::string& path) {
  auto state = std::make_shared<FileState>();
  state->owner = Owner::of_process();
  state->path = path;
  state->owner->run([&] {
    const Scoped access(access_properties(), H5Pclose);
    state->id = H5Fopen(path.c_str(), H5F_ACC_RDONLY, access);
    if (state->id < 0) fail_opening(*state);
  });
  return File(std::move(state));
}

void File::close() {
  state_->owner->run([&] {
    if (state_->id < 0) return;
    checked(H5Fflush(live(*state_), H5F_SCOPE_GLOBAL), *state_, "writing out");
    checked(H5Fclose(state_->id), *state_, "closing");
    state_->id = H5I_INVALID_HID;
  });
}

const std::string& File::path() const { return state_->path; }

bool File::has(const std::string& name) const {
  bool found = false;
  state_->owner->run([&] { found = exists(live(*state_), name); });
  return found;
}

std::vector<std::string> File::children(const std::string& group) const {
  std::vector<std::string> names;
  state_->owner->run([&] {
    checked(H5Literate_by_name(
                live(*state_), group.c_str(), H5_INDEX_NAME, H5_ITER_INC, nullptr,
                [](hid_t, const char* name, const H5L_info_t*, void* out) -> herr_t {
                  static_cast<std::vector<std::string>*>(out)->emplace_back(name);
                  return 0;
                },
                &names, H5P_DEFAULT),
            *state_, "listing " + group);
  });
  return names;
}

void File::create_group(const std::string& name) {
  state_->owner->run([&] {
    const Scoped creation(creation_properties(H5P_GROUP_CREATE), H5Pclose);
    const Scoped group(
        checked(H5Gcreate2(live(*state_), name.c_str(), H5P_DEFAULT, creation, H5P_DEFAULT),
                *state_, "creating group " + name),
        H5Gclose);
  });
}

Dataset File::create_dataset(const std::string& name, const Layout& layout) {
  STRAIT_CHECK(!layout.shape.empty(), name);
  STRAIT_CHECK(
      layout.chunk_rows > 0 || (!layout.growing && layout.deflate == 0 && !layout.checksums), name);
  std::unique_ptr<Dataset> made;
  state_->owner->run([&] {
    const int rank = static_cast<int>(layout.shape.size());
    const std::vector<hsize_t> dims(layout.shape.begin(), layout.shape.end());
    std::vector<hsize_t> most = dims, chunk = dims;
    if (layout.growing) most[0] = H5S_UNLIMITED;
    const Scoped space(checked(H5Screate_simple(rank, dims.data(), most.data()), *state_, "shape"),
                       H5Sclose);
    const Scoped properties(creation_properties(H5P_DATASET_CREATE), H5Pclose);
    H5Pset_fill_time(properties, H5D_FILL_TIME_NEVER);
    if (layout.chunk_rows > 0) {
      chunk[0] = static_cast<hsize_t>(layout.chunk_rows);
      if (!layout.growing) chunk[0] = std::max<hsize_t>(1, std::min(chunk[0], dims[0]));
      checked(H5Pset_chunk(properties, rank, chunk.data()), *state_, "chunks of " + name);
      if (layout.deflate > 0) H5Pset_deflate(properties, static_cast<unsigned>(layout.deflate));
      if (layout.checksums) H5Pset_fletcher32(properties);
    }
    const hid_t id = checked(H5Dcreate2(live(*state_), name.c_str(), file_type(layout.type), space,
                                        H5P_DEFAULT, properties, H5P_DEFAULT),
                             *state_, "creating " + name);
    made.reset(new Dataset(state_, name, id));
  });
  return std::move(*made);
}

Dataset File::open_dataset(const std::string& name) const {
  std::unique_ptr<Dataset> opened;
  state_->owner->run([&] {
    if (!exists(live(*state_), name))
      throw DataError(fmt::format("{}: dataset {} is missing", state_->path, name));
    const hid_t id =
        checked(H5Dopen2(state_->id, name.c_str(), H5P_DEFAULT), *state_, "opening " + name);
    opened.reset(new Dataset(state_, name, id));
  });
  return std::move(*opened);
}

void File::set_attribute(const std::string& object, const std::string& name, int64_t value) {
  state_->owner->run([&] { set_scalar(*state_, object, name, H5T_STD_I64LE, &value); });
}

void File::set_attribute(const std::string& object, const std::string& name,
                         const std::string& value) {
  state_->owner->run([&] {
    // Not of variable length: the heap for those has no checksums.
    const Scoped type(string_type(std::max<size_t>(1, value.size())), H5Tclose);
    set_scalar(*state_, object, name, type, value.c_str());
  });
}

bool File::has_attribute(const std::string& object, const std::string& name) const {
  bool found = false;
  state_->owner->run([&] {
    found = exists(live(*state_), object) &&
            checked(H5Aexists_by_name(state_->id, object.c_str(), name.c_str(), H5P_DEFAULT),
                    *state_, "looking for attribute " + name) > 0;
  });
  return found;
}

int64_t File::int_attribute(const std::string& object, const std::string& name) const {
  int64_t value = 0;
  state_->owner->run([&] {
    const Scoped attribute(open_scalar(*state_, object, name, H5T_INTEGER), H5Aclose);
    checked(H5Aread(attribute, H5T_NATIVE_INT64, &value), *state_, "reading attribute " + name);
  });
  return value;
}

std::string File::string_attribute(const std::string& object, const std::string& name) const {
  std::string value;
  state_->owner->run([&] {
    const Scoped attribute(open_scalar(*state_, object, name, H5T_STRING), H5Aclose);
    const Scoped stored(H5Aget_type(attribute), H5Tclose);
    const std::string doing = "reading attribute " + name;
    if (H5Tis_variable_str(stored) > 0) {  // what other programs write, and this one once did
      const Scoped type(string_type(H5T_VARIABLE), H5Tclose);
      char* text = nullptr;
      checked(H5Aread(attribute, type, &text), *state_, doing);
      if (text != nullptr) value = text;
      H5free_memory(text);
      return;
    }
    value.resize(H5Tget_size(stored));
    const Scoped type(string_type(value.size()), H5Tclose);
    checked(H5Aread(attribute, type, value.data()), *state_, doing);
    value.resize(std::min(value.size(), value.find('\0')));  // the padding
  });
  return value;
}

}  // namespace strait::hdf5
