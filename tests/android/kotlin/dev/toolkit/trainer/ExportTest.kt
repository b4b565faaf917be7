package dev.toolkit.trainer

import android.app.Activity
import android.app.AlertDialog
import android.content.Intent
import android.os.Environment
import android.provider.MediaStore
import android.view.View
import android.widget.EditText
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.service.AutomationService
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.AppFolders
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.store.RunExport
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.ui.ChartView
import dev.toolkit.trainer.ui.RunActivity
import org.json.JSONObject
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.shadows.ShadowDialog
import org.robolectric.shadows.ShadowToast
import java.util.concurrent.atomic.AtomicBoolean
import java.util.zip.ZipInputStream

/** A run's adapter and trace as a zip in Downloads: through MediaStore, and through the picker on Android 9. */
@RunWith(RobolectricTestRunner::class)
class ExportTest {
    @get:Rule val temporary = TemporaryFolder()
    private lateinit var app: TrainerApp
    private lateinit var run: Run

    @Before
    fun train() {
        app = Fixtures.deploy(temporary)
        Fixtures.create(app, "a")
        app.controller.start("a")
        assertTrue(app.controller.join(60_000))
        run = app.runs.require("a")
    }

    private fun page(): Activity {
        val screen = Robolectric.buildActivity(RunActivity::class.java, RunActivity.intent(app, "a")).setup().get()
        await("the page") { screen.requireViewById<View>(R.id.export).isShown }
        return screen
    }

    private fun assertWhole(zip: ByteArray) {
        val entries = LinkedHashMap<String, ByteArray>()
        ZipInputStream(zip.inputStream()).use { stream ->
            generateSequence { stream.nextEntry }.forEach { entries[it.name] = stream.readBytes() }
        }
        assertEquals(setOf("a/adapter_model.safetensors", "a/adapter_config.json", "a/trace.jsonl"), entries.keys)
        assertArrayEquals(Fixtures.referenceAdapter(), entries["a/adapter_model.safetensors"])
        assertArrayEquals(run.trace.readBytes(), entries["a/trace.jsonl"])
    }

    @Test
    fun `goes to Downloads, hidden until it is whole`() {
        val media = Documents.register(MediaStore.AUTHORITY)
        page().requireViewById<View>(R.id.export).performClick()
        await("the message") { ShadowToast.getTextOfLatestToast() != null }
        assertEquals("Saved as a.zip in Downloads", ShadowToast.getTextOfLatestToast())
        val asked = media.inserted.single()
        assertEquals("a.zip", asked.getAsString(MediaStore.MediaColumns.DISPLAY_NAME))
        assertEquals(Environment.DIRECTORY_DOWNLOADS, asked.getAsString(MediaStore.MediaColumns.RELATIVE_PATH))
        assertEquals(1, asked.getAsInteger(MediaStore.MediaColumns.IS_PENDING))
        assertEquals(0, media.updated.single().getAsInteger(MediaStore.MediaColumns.IS_PENDING))
        assertWhole(media.bytes("1"))
    }

    @Test
    fun `the computer can ask for it`() {
        val media = Documents.register(MediaStore.AUTHORITY)
        AutomationService.lastAnswer = null
        ask("a")
        await("the answer") { AutomationService.lastAnswer != null }
        val answer = JSONObject(AutomationService.lastAnswer!!)
        assertTrue("$answer", answer.getBoolean("ok"))
        assertEquals("a.zip", answer.getString("file"))
        assertWhole(media.bytes("1"))
        for ((run, words) in mapOf("gone" to "no run “gone”", "../a" to "cannot name a run")) {
            AutomationService.lastAnswer = null
            ask(run)
            await("the refusal") { AutomationService.lastAnswer != null }
            assertTrue(AutomationService.lastAnswer, words in AutomationService.lastAnswer!!)
        }
        assertEquals("nothing more was written", 1, media.inserted.size)
    }

    private fun ask(run: String) {
        val intent = Intent(AutomationService.EXPORT).putExtra("request", "9").putExtra("run", run)
        Robolectric.buildService(AutomationService::class.java, intent).create().startCommand(0, 1)
    }

    @Test
    fun `leaves nothing half written behind`() {
        val media = Documents.register(MediaStore.AUTHORITY)
        media.broken = true
        val error = assertThrows(AppException::class.java) { RunExport(app).write(run, null) }
        assertTrue(error.message, error.message!!.startsWith("The export cannot be written: "))
        assertEquals(1, media.deleted.size)
        media.forbidden = true
        val refused = assertThrows(AppException::class.java) { RunExport(app).write(run, null) }
        assertTrue(refused.message, "no access" in refused.message!!)
        assertEquals(2, media.deleted.size)
        assertTrue(run.adapter.isFile)
    }

    @Test
    fun `a chosen document is written as it is`() {
        val documents = Documents.register()
        val target = documents.add("b.zip", "b.zip", ByteArray(0))
        assertEquals("b.zip", RunExport(app).write(run, target))
        assertWhole(documents.bytes("b.zip"))
        assertTrue(documents.updated.isEmpty())
    }

    @Test
    fun `a run that is renamed goes on to the same bits, and its curves can be read out`() {
        val half = Fixtures.create(app, "half")
        // Once: what goes on begins at the step it was paused at.
        val paused = AtomicBoolean()
        app.controller.addListener { if (app.controller.active?.progress?.step == 4L && paused.compareAndSet(false, true)) app.controller.pause() }
        app.controller.start("half")
        assertTrue(app.controller.join(60_000))
        assertEquals(RunState.PAUSED, app.runs.require("half").state)
        val screen = Robolectric.buildActivity(RunActivity::class.java, RunActivity.intent(app, "half")).setup().get()
        await("the page") { screen.requireViewById<View>(R.id.export).isShown }
        screen.requireViewById<View>(R.id.loss_table).performClick()
        val table = shadowOf(ShadowDialog.getLatestDialog() as AlertDialog).message.toString().lines()
        assertEquals(listOf("Step 1:", "Step 2:", "Step 3:", "Step 4:"), table.map { it.substringBeforeLast(' ') })

        shadowOf(screen).clickMenuItem(R.id.rename)
        val dialog = ShadowDialog.getLatestDialog() as AlertDialog
        val field = dialog.requireViewById<EditText>(R.id.new_name)
        for ((name, words) in listOf("a" to "already", "../x" to "cannot name a run", "whole" to null)) {
            field.setText(name)
            dialog.getButton(AlertDialog.BUTTON_POSITIVE).performClick()
            await("what comes of $name") { if (words == null) !dialog.isShowing else words in field.error?.toString().orEmpty() }
        }
        await("the new name") { Pictures.text(screen, "whole") }
        assertTrue(!half.folder.exists() && app.runs.find("half") == null)
        app.controller.start("whole")
        assertTrue(app.controller.join(60_000))
        assertArrayEquals(Fixtures.referenceAdapter(), Fixtures.adapter(app.runs.require("whole")))
        assertEquals(listOf(0, 9, 18), ChartView.rows(100).take(3))
        assertEquals(12 to 99, ChartView.rows(100).run { size to last() })
    }

    @Test
    fun `what other apps may write to is no place for models`() {
        assertEquals(3, AppFolders.of(app).bundleRoots().size)
        org.robolectric.util.ReflectionHelpers.setStaticField(android.os.Build.VERSION::class.java, "SDK_INT", 29)
        val external = app.getExternalFilesDir(null)!!
        assertTrue(AppFolders.of(app).run { bundleRoots() + dataRoots() }.none { it.startsWith(external) })
        assertEquals(2, AppFolders.of(app).bundleRoots().size)
    }

    @Test
    fun `Android 9 asks the picker for the place`() {
        org.robolectric.util.ReflectionHelpers.setStaticField(android.os.Build.VERSION::class.java, "SDK_INT", 28)
        val documents = Documents.register()
        val target = documents.add("c.zip", "c.zip", ByteArray(0))
        val screen = page()
        screen.requireViewById<View>(R.id.export).performClick()
        val request = shadowOf(screen).nextStartedActivityForResult.intent
        assertEquals(Intent.ACTION_CREATE_DOCUMENT, request.action)
        assertEquals("a.zip", request.getStringExtra(Intent.EXTRA_TITLE))
        assertNull(ShadowToast.getTextOfLatestToast())
        shadowOf(screen).receiveResult(request, Activity.RESULT_OK, Intent().setData(target))
        await("the message") { ShadowToast.getTextOfLatestToast() != null }
        assertWhole(documents.bytes("c.zip"))
    }
}
