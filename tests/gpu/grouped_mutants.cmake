# Mistakes planted in the source of the grouped products, each of which its run on the CPU must show.
# strait_mutant(<name> <text> <replacement>): the source with every <text> replaced, in a namespace of that name.
set(source core/ops/cuda/kernels/grouped_gemm_fp8.cuh)
set(mutants ${CMAKE_CURRENT_BINARY_DIR}/mutants)
set(includes "")
set(table "")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${source} ${CMAKE_CURRENT_LIST_FILE})
function(strait_mutant name text replacement)
  file(READ ${CMAKE_SOURCE_DIR}/${source} original)
  string(REPLACE "${text}" "${replacement}" mutant "${original}")
  if(mutant STREQUAL original)
    message(FATAL_ERROR "mutant ${name}: ${source} does not contain: ${text}")
  endif()
  file(CONFIGURE OUTPUT ${mutants}/${name}.cuh CONTENT "${mutant}" @ONLY)
  set(includes "${includes}#define grouped_fp8 mutant_${name}\n#include \"tests/gpu/mutants/${name}.cuh\"\n#undef grouped_fp8\n" PARENT_SCOPE)
  set(table "${table}    {\"${name}\", STRAIT_GROUPED_KERNELS(mutant_${name})},\n" PARENT_SCOPE)
endfunction()

# The ring of stages
strait_mutant(stage_never_released "if (lane == 0) ptx::mbarrier_arrive(&shared.empty[ring.stage]);" "")
strait_mutant(stage_loaded_before_it_is_empty "wait_empty(shared, ring);" "")
strait_mutant(wrong_phase_of_empty "ring.parity ^ 1" "ring.parity")
strait_mutant(stage_read_before_it_is_full "ptx::mbarrier_wait(&shared.full[ring.stage], ring.parity);" "")
strait_mutant(phase_never_flips "parity ^= 1;" "")
strait_mutant(one_group_not_waited_for "mbarrier_init(&shared.empty[i], kMathWarps)" "mbarrier_init(&shared.empty[i], kMathWarps / 2)")
strait_mutant(scales_not_counted " + sizeof(shared.a_scales[0])" "")
strait_mutant(barriers_used_before_they_are_made "  __syncthreads();\n" "")
strait_mutant(scales_read_after_release "__syncwarp();  // all lanes have read their scales" "")
strait_mutant(released_before_the_product "multiply(shared.stages[ring.stage], me.group, product);
        release(shared, ring, me.lane);" "release(shared, ring, me.lane);
        multiply(shared.stages[ring.stage], me.group, product);")
# The product
strait_mutant(shifted_descriptor_of_b "b + step * ptx::kWgmmaKStep" "b + (step ^ 1) * ptx::kWgmmaKStep")
strait_mutant(shifted_descriptor_of_a "stage.a + group * kGroupRows * kTileK" "stage.a + (group ^ 1) * kGroupRows * kTileK")
strait_mutant(product_not_from_zero "step > 0" "step >= 0")
strait_mutant(product_not_waited_for "  ptx::wgmma_wait();\n" "")
strait_mutant(scale_of_another_row "[ring.stage][row + 8]" "[ring.stage][row]")
# What leaves
strait_mutant(written_over_before_it_left "if (me.first_of_group) ptx::tma_wait_read();" "")
strait_mutant(written_over_before_all_know_it_left "ptx::named_barrier(1 + me.group, kGroup);
      __nv_bfloat16* out" "__nv_bfloat16* out")
strait_mutant(stored_before_all_have_written "ptx::fence_async_proxy();
      ptx::named_barrier(1 + me.group, kGroup);" "ptx::fence_async_proxy();")
strait_mutant(added_before_all_have_written "ptx::fence_async_proxy();
        ptx::named_barrier(1 + me.group, kGroup);" "ptx::fence_async_proxy();")
strait_mutant(bf16_without_swizzle "i % kChunks ^ row % 8" "i % kChunks")
strait_mutant(fp32_without_swizzle "^ row % 8;\n    float*" ";\n    float*")
strait_mutant(rows_of_another_group "m * kTileM + me.group * kGroupRows)" "m * kTileM)")
# Who works on what
strait_mutant(expert_forgotten "expert * sizes.n + n" "n")
strait_mutant(blocks_do_the_same_tiles "tile = blockIdx.x;" "tile = 0;")

file(CONFIGURE OUTPUT ${mutants}.inc CONTENT "${includes}" @ONLY)
file(CONFIGURE OUTPUT ${mutants}_table.inc CONTENT "${table}" @ONLY)
