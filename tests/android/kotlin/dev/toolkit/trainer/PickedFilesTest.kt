package dev.toolkit.trainer

import android.app.Activity
import android.app.ActivityManager
import android.content.Intent
import android.net.Uri
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.Spinner
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.Pictures.text
import dev.toolkit.trainer.service.Doing
import dev.toolkit.trainer.store.TextData
import dev.toolkit.trainer.ui.MadeData
import dev.toolkit.trainer.ui.TextActivity
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import java.io.File

/** Files for "Train on my text": what has to be said of them, and what is done with them beside a run. */
@RunWith(RobolectricTestRunner::class)
class PickedFilesTest {
    @get:Rule val temporary = TemporaryFolder()

    private val documents by lazy { Documents.register() }

    private fun chat(name: String): Uri = documents.add(name, name, File(Fixtures.folder, "chats/files/$name").readBytes())

    private fun share(vararg files: Uri): ActivityController<TextActivity> {
        val intent = Intent(Intent.ACTION_SEND_MULTIPLE).setType("text/plain").putParcelableArrayListExtra(Intent.EXTRA_STREAM, ArrayList(files.toList()))
        return Robolectric.buildActivity(TextActivity::class.java, intent).setup()
    }

    private val Activity.me: Spinner get() = requireViewById(R.id.me)
    private val Activity.make: Button get() = requireViewById(R.id.make)

    @Test
    fun `who the user is was said once, and stays said`() {
        Fixtures.deploy(temporary)
        val controller = share(chat("android.txt"))
        await("who speaks") { controller.get().me.count == 3 }
        assertEquals(listOf(0, false), listOf(controller.get().me.selectedItemPosition, controller.get().make.isEnabled))
        controller.get().me.setSelection(2)
        await("the button") { controller.get().make.isEnabled }
        controller.recreate()
        await("who speaks, again") { controller.get().me.count == 3 && controller.get().make.isEnabled }
        assertEquals("Ben, 3 messages", controller.get().me.selectedItem)
        // Another chat with the same people, and one whose own they are not.
        val screen = controller.get()
        for (file in listOf(chat("us.txt"), documents.add("d", "diary.txt", "dear diary".toByteArray()))) {
            screen.requireViewById<View>(R.id.add_files).performClick()
            Documents.answer(screen, listOf(file))
        }
        await("all of them") { screen.requireViewById<ViewGroup>(R.id.files).childCount == 3 && screen.make.isEnabled }
        assertEquals("Ben, 5 messages", screen.me.selectedItem)
        // And it can be taken back.
        screen.me.setSelection(0)
        await("the button") { !screen.make.isEnabled }
        repeat(2) { screen.requireViewById<ViewGroup>(R.id.files).getChildAt(0).requireViewById<View>(R.id.delete).performClick() }
        assertTrue("a text needs nobody", screen.make.isEnabled)
        controller.close()
    }

    @Test
    fun `a file is not looked at beside a run where there is no memory for it`() {
        val app = Fixtures.deploy(temporary)
        val memory = shadowOf(app.getSystemService(ActivityManager::class.java))
        memory.setMemoryInfo(ActivityManager.MemoryInfo().apply { availMem = 300_000_000 })
        Fixtures.create(app, "long", Fixtures.reference.copy(steps = 100_000))
        app.controller.start("long")
        await("a step") { app.controller.active?.doing == Doing.TRAINING }
        val large = documents.add("large", "large.txt", ByteArray(TextData.LARGEST_FILE) { 'a'.code.toByte() })
        val screen = share(large, chat("android.txt")).get()
        await("the small one") { screen.me.count == 3 && text(screen, "WhatsApp chat") }
        assertEquals(listOf("android.txt"), documents.opened.distinct())
        screen.me.setSelection(1)
        await("the button") { screen.make.isEnabled }
        screen.make.performClick()
        assertTrue(text(screen, "long is training, and only 300 MB"))
        assertFalse(app.makingData.running)
        screen.requireViewById<ViewGroup>(R.id.files).getChildAt(1).requireViewById<View>(R.id.delete).performClick()
        app.controller.stop()
        assertTrue(app.controller.join(30_000))
        // Now it is looked at, and then learned from.
        await("the models") { screen.requireViewById<Spinner>(R.id.bundle).count == 1 }
        screen.make.performClick()
        await("the large file") { "large" in documents.opened }
        await("the work") { app.makingText != null || screen.isFinishing }
        app.makingText?.cancel()
        await("the end") { !app.makingData.running }
    }

    @Test
    fun `data that is ready while the screen is not looked at opens the next one when it is`() {
        val app = Fixtures.deploy(temporary)
        val controller = Robolectric.buildActivity(TextActivity::class.java).setup()
        app.makingData.begin { MadeData(TextData(app.folders).make("mine", app.bundles.require("words"), listOf("hello there")), null) }
        controller.pause().stop()
        await("the data") { !app.makingData.running }
        assertNull(shadowOf(controller.get()).nextStartedActivity)
        assertFalse(controller.get().isFinishing)
        controller.start().resume()
        await("the next screen") { controller.get().isFinishing }
        assertEquals("mine", shadowOf(controller.get()).nextStartedActivity.getStringExtra("data"))
        controller.close()
    }
}
