package dev.toolkit.trainer

import android.app.AlertDialog
import android.content.Intent
import android.net.Uri
import android.view.View
import android.widget.TextView
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.GgufFile
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.ui.RunActivity
import dev.toolkit.trainer.ui.Sharing
import java.io.File
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.shadows.ShadowDialog
import org.robolectric.shadows.ShadowToast

/** An adapter for llama.cpp, against `toolkit convert`, and the ways in which one leaves the phone. */
@RunWith(RobolectricTestRunner::class)
class SharingTest {
    @get:Rule val temporary = TemporaryFolder()

    private fun run(app: TrainerApp, name: String, from: String): Run {
        val run = Fixtures.create(app, name)
        for (file in listOf("adapter_model.safetensors", "adapter_config.json")) File(Fixtures.folder, "$from/$file").copyTo(File(run.folder, file))
        return app.runs.save(run.copy(state = RunState.COMPLETED, step = 8))
    }

    @Test
    fun `llama cpp gets the bytes that toolkit convert writes`() {
        val app = Fixtures.deploy(temporary)
        val bundle = app.bundles.require("tiny")
        for ((name, from) in mapOf("reference" to "reference", "odd" to "gguf/odd")) {
            val target = temporary.newFile("$name.gguf")
            GgufFile(run(app, name, from), bundle).writeTo(target)
            assertArrayEquals(name, File(Fixtures.folder, "gguf/$name.gguf").readBytes(), target.readBytes())
        }
    }

    @Test
    fun `a model that llama cpp does not know is refused`() {
        val app = Fixtures.deploy(temporary)
        File(Fixtures.deployed(), "bundles/tiny/config.json").run { writeText(readText().replace("\"llama\"", "\"lamma\"")) }
        val target = temporary.newFolder().resolve("a.gguf")
        val error = assertThrows(AppException::class.java) { GgufFile(run(app, "a", "reference"), app.bundles.list().first { it.name == "tiny" }).writeTo(target) }
        assertTrue(error.message, "llama.cpp has no name for" in error.message!!)
        assertTrue(!target.exists())
    }

    @Test
    fun `sharing says what an adapter may give away, and asks as what`() {
        val app = Fixtures.deploy(temporary)
        run(app, "reference", "reference")
        val screen = Robolectric.buildActivity(RunActivity::class.java, RunActivity.intent(app, "reference")).setup().get()
        val choices = mapOf(R.id.share_gguf to "reference.gguf", R.id.share_zip to "reference.zip")
        for ((button, name) in choices) {
            val dialog = asked(screen)
            assertFalse("approximate" in words(dialog))
            assertTrue("names, numbers, whole sentences" in words(dialog))
            dialog.requireViewById<View>(button).performClick()
            assertFalse(dialog.isShowing)
            var sent: Intent? = null
            await("the share sheet") { shadowOf(screen).nextStartedActivity.also { sent = it } != null }
            @Suppress("DEPRECATION")
            val uri = sent!!.getParcelableExtra<Intent>(Intent.EXTRA_INTENT)!!.getParcelableExtra<Uri>(Intent.EXTRA_STREAM)!!
            assertEquals(name, uri.lastPathSegment)
            assertEquals(name.endsWith("zip"), app.contentResolver.getType(uri) == "application/zip")
            if (name.endsWith("gguf")) {
                val bytes = app.contentResolver.openInputStream(uri)!!.use { it.readBytes() }
                assertArrayEquals(File(Fixtures.folder, "gguf/reference.gguf").readBytes(), bytes)
            }
        }
        File(Fixtures.deployed(), "bundles/tiny/manifest.json").delete()
        asked(screen).requireViewById<View>(R.id.share_gguf).performClick()
        await("the reason") { ShadowToast.getTextOfLatestToast().orEmpty().contains("tiny") }
    }

    private fun words(dialog: AlertDialog) = dialog.requireViewById<TextView>(R.id.words).text.toString()

    private fun asked(screen: RunActivity): AlertDialog {
        val before = ShadowDialog.getLatestDialog()
        Sharing(screen).ask("reference")
        await("the question") { ShadowDialog.getLatestDialog() !== before }
        return ShadowDialog.getLatestDialog() as AlertDialog
    }

    @Test
    fun `what learned by approximate gradients is called so, by its model's manifest or its trace`() {
        val app = Fixtures.deploy(temporary)
        val run = run(app, "reference", "reference")
        val model = File(Fixtures.deployed(), "bundles/tiny")
        val manifest = File(model, "manifest.json")
        manifest.writeText(manifest.readText().replace("\"lowering\": \"mesp\"", "\"lowering\": \"approx-bp\""))
        assertEquals("approx-bp", app.bundles.require("tiny").lowering)
        fun page() = Robolectric.buildActivity(RunActivity::class.java, RunActivity.intent(app, "reference")).setup().get()
        page().let { screen ->
            await("the page") { Pictures.text(screen, "approximate gradients (approx-bp)") }
            assertTrue("approximate gradients (approx-bp)" in words(asked(screen)))
        }
        model.deleteRecursively()
        run.trace.writeText(File(Fixtures.folder, "reference/trace.jsonl").readText().replace("\"lowering\":\"mesp\"", "\"lowering\":\"approx-bp\""))
        page().let { screen ->
            await("the page without the model") { Pictures.text(screen, "approximate gradients (approx-bp)") }
            assertTrue("approximate gradients (approx-bp)" in words(asked(screen)))
        }
        File(Fixtures.folder, "reference/trace.jsonl").copyTo(run.trace, overwrite = true)
        page().let { screen ->
            await("the page of an exact one") { Pictures.text(screen, "What the model learned") }
            assertFalse(Pictures.text(screen, "approximate"))
        }
    }

    @Test
    fun `an earlier save can be gone back to, and what it learned from stays known`() {
        val app = Fixtures.deploy(temporary)
        Fixtures.create(app, "a", Fixtures.reference.copy(saveEvery = 2, keepCheckpoints = 3))
        app.controller.start("a")
        assertTrue(app.controller.join(60_000))
        val run = app.runs.require("a")
        assertEquals(listOf(4L, 6L, 8L), run.versions.map { it.step })
        assertArrayEquals(Fixtures.referenceAdapter(), run.best.readBytes())
        val screen = Robolectric.buildActivity(RunActivity::class.java, RunActivity.intent(app, "a")).setup().get()
        await("the page") { screen.requireViewById<View>(R.id.versions).isShown }
        assertTrue(Pictures.text(screen, "Learned from rows: 12 texts or chats"))
        screen.requireViewById<View>(R.id.versions).performClick()
        await("the choice") { ShadowDialog.getLatestDialog()?.isShowing == true }
        val dialog = ShadowDialog.getLatestDialog() as AlertDialog
        assertEquals(listOf("The best one, or the last", "Step 4", "Step 6", "Step 8"), shadowOf(dialog).items.map { it.toString() })
        shadowOf(dialog).clickOnItem(1)
        await("the page again") { Pictures.text(screen, "the state of step 4") }
        val back = app.runs.require("a")
        assertArrayEquals(File(back.folder, "checkpoints/step-4/adapter_model.safetensors").readBytes(), back.best.readBytes())
        assertTrue(!back.best.readBytes().contentEquals(back.adapter.readBytes()))
        app.runs.prolong("a")
        app.controller.start("a")
        assertTrue(app.controller.join(60_000))
        val longer = app.runs.require("a")
        assertEquals(longer.reason, 16L to longer.adapter, longer.step to longer.best)
    }
}
